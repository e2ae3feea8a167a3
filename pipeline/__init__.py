"""Everything that touches the world: settings, Azure, storage, HTTP, telemetry; a module a stage."""
