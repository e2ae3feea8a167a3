"""What the checks read and what they return: frozen, typed, free of any SDK.

`snapshot` is one cluster as it was seen, `finding` what can be said of it.
"""
