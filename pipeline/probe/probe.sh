#!/bin/sh
# What one AKS node is like on the way in to TCP 10250: printed in a frame that survives Azure Run Command.
#
# Runs as root on production nodes, so it only looks: it writes no file, changes no rule and makes no kernel
# module load. A table that iptables-legacy lists comes into being by being listed, so only those are listed
# that are there. No here-documents: bash keeps them in files. Every command has a time limit, and the frame
# is printed within 25 s even if one of them cannot be killed.
#
# Wants dash or bash, coreutils, awk (mawk will do), gzip. Looks for nc (netcat-openbsd or Ncat), bash,
# iptables, nft and ufw, and says so where it needs one that is not there.
#
# Parameters, as exported variables: tw_nonce (letters and digits), and as needed tw_addresses (with commas
# between them; asked about in the first piece only), tw_piece (from 1), tw_digest (what the first piece said).
#
# The frame is what pipeline/probe/frame.py reads; the body is made of sections, for pipeline/probe/report.py:
# lines behind a "|", then "section NAME ok|absent|timeout|no_tool|failed [words]"; at last "end ok|late".
set -u
set -f
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
PYTHONDONTWRITEBYTECODE=1
export PATH LC_ALL PYTHONDONTWRITEBYTECODE
umask 077

PORT=10250
STOP=20   # s after the start: no command runs longer
LATE=22   # s after the start: what is there by now is what is printed
ASK=12    # s after the start: no more addresses are asked
ROOM=3600 # bytes of answers and body in one piece: with all that is around them they stay below 4,096
REACH=3000
PIECES=64

nl='
'

clock() { # sets $clock, in seconds
  if read -r clock rest </proc/uptime; then
    clock=${clock%%.*}
  else
    clock=$(date +%s)
  fi 2>/dev/null
}
clock
began=$clock

there() {
  command -v "$1" >/dev/null 2>&1
}

limit=
if there timeout; then limit=timeout; fi

limited() { # SECONDS COMMAND...: as long as that and the deadline allow; 124 or 137 if it took longer
  most=$1
  shift
  clock
  left=$((began + STOP - clock))
  if [ "$most" -gt "$left" ]; then most=$left; fi
  if [ "$most" -lt 1 ]; then return 124; fi
  if [ -n "$limit" ]; then
    timeout -k 1 "$most" "$@" </dev/null
  else
    "$@" </dev/null
  fi
}

oneline() { # TEXT: printable, on one line, not long
  printf %s "$1" | tr -c ' -~' ' ' | cut -c 1-200
}

section() { # NAME STATUS [WORDS]
  printf 'section %s\n' "$*"
}

ended() { # NAME EXIT-STATUS WORDS: the end of a section that a command printed
  case $2 in
    0) section "$1" ok ;;
    124 | 137) section "$1" timeout ;;
    *) section "$1" failed "$2" "$(oneline "$3")" ;;
  esac
}

# --- what the node is ---------------------------------------------------------------------------

system() {
  for release in /etc/os-release /usr/lib/os-release; do
    if [ -r "$release" ]; then
      awk -F = '$1 == "PRETTY_NAME" { sub(/^[^=]*=/, ""); gsub(/["\047]/, ""); print "|" $0; exit }' "$release"
      break
    fi
  done
  section os ok
}

# Of several default routes the one with the lowest metric. A node without IPv4 is asked for IPv6; what
# cannot be reached (flag 0x200) stands there as a route of lo.
interface() {
  found=$(awk '$2 == "00000000" && $8 == "00000000" && (best == "" || $7 + 0 < best) { best = $7 + 0; name = $1 }
    END { print name }' /proc/net/route 2>/dev/null)
  if [ -z "$found" ]; then
    found=$(awk '$1 ~ /^0+$/ && $2 == "00" && $NF != "lo" { print $NF; exit }' /proc/net/ipv6_route 2>/dev/null)
  fi
  if [ -n "$found" ]; then printf '|%s\n' "$found"; fi
  section interface ok
}

# --- who answers --------------------------------------------------------------------------------

# netcat-openbsd scans with -z (nc(1)). Ncat has that option only since 7.00 or so and does the same with
# --send-only and nothing to send (https://nmap.org/ncat/guide/ncat-other-options.html). -n: no DNS.
choose_way() {
  way=none
  if there nc; then
    case $(limited 2 nc -h 2>&1) in
      *[Nn]cat\ * | *nmap.org*) way=ncat ;;
      *) way=nc ;;
    esac
  elif there bash; then
    way=bash
  fi
}

ask() { # NUMBER ADDRESS
  case $2 in
    *:*) family=-6 ;;
    *) family=-4 ;;
  esac
  case $way in
    nc) said=$(limited 4 nc "$family" -n -v -z -w 2 "$2" "$PORT" 2>&1) ;;
    ncat) said=$(limited 4 nc "$family" -n -v -w 2 --send-only "$2" "$PORT" 2>&1) ;;
    bash) said=$(limited 2 bash -c "exec 3<>/dev/tcp/$2/$PORT" 2>&1) ;;
    *) said=$(echo 'there is neither nc nor bash on the node' && exit 1) ;;
  esac
  status=$?
  said=${said##*"$nl"}
  case $status:$said in
    0:*) answer=open said= ;;
    124:* | 137:*) answer=timeout said='no answer in time' ;;
    *refused*) answer=refused ;;
    *'timed out'* | *TIMEOUT* | *'in progress'*) answer=timeout ;;
    *'No route'* | *nreachable* | *'Host is down'*) answer=unreachable ;;
    *) answer=error said=${said:-exit status $status} ;;
  esac
  printf 'reach %s %s %s %s\n' "$1" "$2" "$answer" "$(oneline "$said" | cut -c 1-120)"
}

reach() { # ADDRESS,ADDRESS...
  choose_way
  number=0
  IFS=,
  # shellcheck disable=SC2086 # split at the commas
  set -- $1
  unset IFS
  for address in "$@"; do
    number=$((number + 1))
    if [ $((number % 16)) -eq 1 ]; then
      wait
      clock
      if [ "$clock" -ge $((began + ASK)) ]; then break; fi
    fi
    ask "$number" "$address" &
  done
  wait
}

# --- UFW ----------------------------------------------------------------------------------------

# `ufw status` asks `iptables -L` for UFW's chains, which would make a table that is not there. Where there
# is no table there are no chains of UFW in it, and "Status: inactive" is what it would have printed.
uncomplicated() {
  if ! there ufw; then
    if [ -r /etc/ufw/ufw.conf ] &&
      awk 'tolower($0) ~ /^enabled=["\047]?yes/ { found = 1 } END { exit !found }' /etc/ufw/ufw.conf; then
      section ufw no_tool UFW is enabled in /etc/ufw/ufw.conf, and its command is not there
    else
      section ufw absent
    fi
    return
  fi
  case $(limited 3 iptables -V 2>&1) in
    *nf_tables*) table=$nf_tables ;;
    'iptables v'*) table=$(awk '$0 == "filter"' /proc/net/ip_tables_names 2>/dev/null) ;;
    *) table=unknown ;;
  esac
  if [ -z "$table" ]; then
    printf '|Status: inactive\n'
    section ufw ok
    return
  fi
  # Both at once, one of them marked: a shell has one substitution, and there shall be no file.
  both=$({ said=$(limited 8 ufw status verbose 2>&1 >&3); printf '\n#%s %s\n' "$?" "$(oneline "$said")"; } 3>&1)
  said=${both##*"$nl#"}
  printf '%s\n' "${both%"$nl#"*}" | sed -e '/^$/d' -e 's/^/|/'
  ended ufw "${said%% *}" "${said#* }"
}

# --- packet filters -----------------------------------------------------------------------------

# What iptables-save prints, cut down to the chains that a packet meets on its way in and those that they
# lead to: PREROUTING of raw, mangle and nat, INPUT of mangle, nat, filter and security. A chain is kept with
# all of its rules, so that line numbers hold, or not at all. A comment may hold a line break, which
# iptables-save prints as it is: it becomes a blank.
#
# nat is there only if a rule on that way, kube-proxy's aside, does something to TCP 10250: one that names the
# port or no port at all. kube-proxy's chains of nat (KUBE-...) rewrite packets to addresses of services and
# to node ports, never to the kubelet's port on an address of a node; there may be tens of thousands of rules
# in them. Those that are reached are declared and left empty.
#
# family: ip or ip6. native: tables, as ip:filter, that hold rules which iptables-save cannot show as they are.
# Prints at the end "#shown" with the tables that it met, then the section's end.
# shellcheck disable=SC2016 # awk expands it
cut_iptables='
function plain(s) { if (index(s, "\"")) { gsub(/\\./, "", s); gsub(/"[^"]*"/, "", s) } return s }
function begin(name) { table = name; chains = 0; split("", policy); split("", count); split("", rule); split("", target) }
function holds(ports, parts, ends, i, n) {
  n = split(ports, parts, ",")
  for (i = 1; i <= n; i++) {
    if (split(parts[i], ends, ":") == 1) ends[2] = ends[1]
    if (ends[1] + 0 <= port && port <= ends[2] + 0) return 1
  }
  return 0
}
function touches(s, to, words, n, hit) {
  if (to == "" || to in policy || to ~ /^(ACCEPT|RETURN|LOG|NFLOG|MARK|CONNMARK|SNAT|MASQUERADE)$/) return 0
  s = plain(s)
  if (match(s, / (! )?-p [^ ]+/)) {
    n = split(substr(s, RSTART, RLENGTH), words, " ")
    if (n == 2 && words[2] !~ /^(tcp|6|all|0)$/ || n == 3 && words[3] ~ /^(tcp|6)$/) return 0
  }
  if (match(s, / (! )?--(dports?|ports) [^ ]+/)) {
    n = split(substr(s, RSTART, RLENGTH), words, " ")
    hit = holds(words[n])
    return n == 3 ? !hit : hit
  }
  return 1
}
function emit(stack, seen, top, c, i, j, wanted) {
  shown = shown " " family ":" table
  if (index(native, " " family ":" table " ")) return
  top = 0
  if (table ~ /^(raw|mangle|nat)$/ && "PREROUTING" in policy) stack[++top] = "PREROUTING"
  if (table ~ /^(mangle|nat|filter|security)$/ && "INPUT" in policy) stack[++top] = "INPUT"
  if (!top) return
  wanted = table != "nat"
  while (top) {
    c = stack[top--]
    if (c in seen) continue
    seen[c] = 1
    if (policy[c] != "ACCEPT" && policy[c] != "-") wanted = 1
    for (i = 1; i <= count[c]; i++) {
      if (target[c, i] in policy && !(target[c, i] in seen)) stack[++top] = target[c, i]
      if (!wanted && touches(rule[c, i], target[c, i])) wanted = 1
    }
  }
  if (!wanted) return
  print "|*" table
  for (j = 1; j <= chains; j++) if (name[j] in seen) print "|:" name[j] " " policy[name[j]] " [0:0]"
  for (j = 1; j <= chains; j++) if (name[j] in seen) for (i = 1; i <= count[name[j]]; i++) print "|" rule[name[j], i]
  print "|COMMIT"
}
{ last = $0 }
held != "" { $0 = held " " $0; held = "" }
substr($0, 1, 3) == "-A " {
  if (index($0, "\"") && index(plain($0), "\"")) { held = $0; next }
  if (table == "nat" && $2 ~ /^KUBE-/) next
  rule[$2, ++count[$2]] = $0
  if (match(s = plain($0), / -[jg] [^ ]+/)) target[$2, count[$2]] = substr(s, RSTART + 4, RLENGTH - 4)
  next
}
substr($0, 1, 1) == ":" { name[++chains] = substr($1, 2); policy[name[chains]] = $2; next }
substr($0, 1, 1) == "*" { begin(substr($0, 2)); next }
$0 == "COMMIT" { emit(); table = "" }
END {
  print "#shown" shown " "
  n = split(last, words, " ")
  status = words[2]
  if (words[1] != "#status") status = 1
  said = substr(last, length(words[1] words[2]) + 3)
  if (status == 0 && (table != "" || held != "")) { status = 1; said = "its output ends in the middle of a table" }
  if (status == 0) print "section " section " ok"
  else if (status == 124 || status == 137) print "section " section " timeout"
  else print "section " section " failed " status " " said
}'

save() { # SECTION FAMILY COMMAND NATIVE
  {
    said=$(limited 10 "$3" 2>&1 >&3)
    printf '\n#status %s %s\n' "$?" "$(oneline "$said")"
  } 3>&1 | awk -v section="$1" -v family="$2" -v native="$4" -v port="$PORT" "$cut_iptables"
}

saver() { # iptables|ip6tables nft|legacy: sets $saver, empty if there is none
  saver=
  if there "$1-$2-save"; then
    saver=$1-$2-save
  elif there "$1-save"; then
    case $2:$(limited 3 "$1-save" -V 2>&1) in
      nft:*nf_tables*) saver=$1-save ;;
      legacy:*nf_tables*) ;;
      legacy:*) saver=$1-save ;; # releases before 1.8 do not say what they are
    esac
  fi
}

legacy() { # iptables|ip6tables FAMILY /proc/net/..._names
  name=$1-legacy-save
  if [ ! -e "$3" ]; then
    section "$name" absent
    return
  fi
  if ! tables=$(cat "$3" 2>&1); then
    section "$name" failed 1 "$(oneline "$tables")"
    return
  fi
  saver "$1" legacy
  if [ -z "$tables" ]; then
    section "$name" absent
  elif [ -z "$saver" ]; then
    section "$name" no_tool the kernel has tables of "$1-legacy", and there is no command to list them
  else
    save "$name" "$2" "$saver" ' ' | sed -e '/^#shown/d'
  fi
}

compatible() { # iptables|ip6tables FAMILY; leaves in $shown what it met
  name=$1-nft-save
  saver "$1" nft
  if [ -z "$nf_tables" ] || [ -z "$saver" ]; then
    section "$name" absent
    return
  fi
  text=$(save "$name" "$2" "$saver" "$native")
  printf '%s\n' "$text" | sed -e '/^#shown/d'
  # Of a command that failed nothing counts as shown.
  met=$(printf '%s\n' "$text" | tail -n 2 | awk '/^#shown/ { met = $0 } $3 == "ok" { sub(/^#shown/, "", met); print met }')
  shown="$shown$met "
}

# What `nft -s list ruleset` prints, cut down to the chains that hook in on the way in (ingress, prerouting,
# input), the chains they lead to, and the sets and maps that those name. Elements lose when they expire.
#
# Tables that iptables-nft-save showed lose its chains here, and keep those that it cannot show. In kube-proxy's
# own tables the chains of type nat are left out, in tables called nat its KUBE-... chains are empty: see above.
#
# job=native instead prints the tables that bear a name of iptables and hold rules that iptables did not make:
# it always counts, and knows no sets. iptables-nft-save prints such rules as if half of them were not there.
# shellcheck disable=SC2016 # awk expands it
cut_nft='
function plain(s) { if (index(s, "\"")) gsub(/"[^"]*"/, "", s); return s }
function want(kind, id) { if ((kind, id) in at && !((kind, id) in seen)) { seen[kind, id] = 1; stack[++top] = at[kind, id] } }
function walk(b, i, s) {
  for (i = from[b]; i <= to[b]; i++) {
    if (!index(line[i], "@") && !index(line[i], "jump ") && !index(line[i], "goto ")) continue
    s = plain(line[i])
    while (match(s, /(@|jump |goto )[^ ,;}]+/)) {
      if (substr(s, RSTART, 1) == "@") {
        want("set", substr(s, RSTART + 1, RLENGTH - 1))
        want("map", substr(s, RSTART + 1, RLENGTH - 1))
      } else want("chain", substr(s, RSTART + 5, RLENGTH - 5))
      s = substr(s, RSTART + RLENGTH)
    }
  }
}
function foreign(i, s) {
  for (i = 1; i <= lines; i++) {
    if (substr(line[i], 1, 2) != "\t\t" || kind[of[i]] != "chain") continue
    s = plain(line[i])
    if (s ~ /^\t\t(type|policy|comment)( |$)/) continue
    if (s !~ /[\t ]counter( |$)/ || s ~ / @[A-Za-z_]/ || index(s, " vmap ")) return 1
    if (index(s, "{") && s !~ /(l4proto|protocol|nexthdr) /) return 1
  }
  return 0
}
function emit(b, i, words, mine, theirs, empty) {
  theirs = (family == "ip" || family == "ip6") && name ~ /^(filter|nat|mangle|raw|security)$/
  if (job == "native") {
    if (theirs && foreign()) printf "%s:%s ", family, name
    return
  }
  mine = index(shown, " " family ":" name " ") && !index(native, " " family ":" name " ")
  top = 0
  split("", seen)
  for (b = 1; b <= blocks; b++) {
    if (kind[b] != "chain") continue
    for (i = from[b]; i <= to[b]; i++) if (line[i] ~ /^\t\ttype [a-z]+ hook (ingress|prerouting|input) /) {
      split(line[i], words, " ")
      if (mine && id[b] ~ /^(INPUT|PREROUTING)$/) continue
      if (name == "kube-proxy" && words[2] == "nat") continue
      want("chain", id[b])
    }
  }
  if (!top) return
  while (top) { b = stack[top--]; if (!(name == "nat" && id[b] ~ /^KUBE-/)) walk(b) }
  print "|" head
  for (i = 1; i <= lines; i++) if (!of[i]) print "|" line[i]
  for (b = 1; b <= blocks; b++) {
    if (kind[b] == "flowtable" || kind[b] ~ /^(chain|set|map)$/ && !((kind[b], id[b]) in seen)) continue
    empty = name == "nat" && kind[b] == "chain" && id[b] ~ /^KUBE-/
    for (i = from[b]; i <= to[b]; i++) {
      if (empty && i > from[b] && i < to[b]) continue
      if (kind[b] != "chain" && index(line[i], " expires ")) gsub(/ expires [0-9a-z]+/, "", line[i])
      print "|" line[i]
    }
  }
  print "|}"
}
{ last = $0 }
$1 == "table" && $NF == "{" && substr($0, 1, 1) != "\t" {
  head = $0; family = $2; name = $3; lines = blocks = open = 0
  split("", at); split("", of)
  next
}
head == "" { next }
$0 == "}" { emit(); head = ""; next }
$0 == "" { next }
!open && $0 ~ /^\t[^\t].*\{$/ {
  blocks++
  open = 1
  kind[blocks] = $1
  id[blocks] = $(NF - 1)
  from[blocks] = lines + 1
  at[$1, $(NF - 1)] = blocks
}
{ line[++lines] = $0; of[lines] = open ? blocks : 0 }
open && $0 == "\t}" { to[blocks] = lines; open = 0 }
END {
  if (job == "native") exit
  n = split(last, words, " ")
  status = words[1] == "#status" ? words[2] : 1
  said = substr(last, length(words[1] words[2]) + 3)
  if (status == 0 && head != "") { status = 1; said = "its output ends in the middle of a table" }
  if (status == 0) print "section nft ok"
  else if (status == 124 || status == 137) print "section nft timeout"
  else print "section nft failed " status " " said
}'

filters() {
  native=' ' shown=' ' rules=
  if [ -n "$nf_tables" ] && there nft; then
    rules=$({ said=$(limited 10 nft -s list ruleset 2>&1 >&3); printf '\n#status %s %s\n' "$?" "$(oneline "$said")"; } 3>&1)
    native=" $(printf '%s\n' "$rules" | awk -v job=native "$cut_nft")"
  fi
  compatible iptables ip
  compatible ip6tables ip6
  if [ -n "$rules" ]; then
    printf '%s\n' "$rules" | awk -v job=cut -v native="$native" -v shown="$shown" "$cut_nft"
  elif [ -z "$nf_tables" ]; then
    section nft absent
  else
    section nft no_tool nf_tables is in the kernel, and nft is not there to list all of its tables
  fi
  legacy iptables ip /proc/net/ip_tables_names
  legacy ip6tables ip6 /proc/net/ip6_tables_names
}

# --- all together -------------------------------------------------------------------------------

collect() { # ADDRESSES
  # A kernel without nf_tables has no rules in it, and nft would load it. If it cannot be told, we look.
  nf_tables=
  if [ -d /sys/module/nf_tables ] || [ ! -r /proc/kallsyms ] ||
    awk '$3 ~ /^nf_tables_/ { found = 1; exit } END { exit !(found || !NR) }' /proc/kallsyms; then
    nf_tables=yes
  fi
  system
  interface
  if [ -n "$1" ]; then reach "$1"; fi
  uncomplicated
  filters
}

# Both run in the background, so that sed alone decides when there is an end: a command that hangs for good
# holds the pipe open, and nobody waits for it. (mawk would: it reads on until its buffer is full.)
all() {
  {
    (
      nap=
      trap 'kill $nap; exit 0' TERM
      sleep "$LATE" &
      nap=$!
      wait "$nap"
      printf '\nlate\n'
    ) &
    dog=$!
    (
      collect "$1"
      printf 'end\n'
      kill "$dog"
    ) &
  } | sed -e '/^end$/q' -e '/^late$/q' | awk '
    BEGIN { how = "late" }
    $0 == "end" { how = "ok" }
    /^\|/ { held[++n] = $0; next }
    /^section / { for (i = 1; i <= n; i++) print held[i]; n = 0; print; next }
    /^reach / { print }
    END { print "end " how }'
}

packed() { # reads text; one line
  if [ "$coding" = gzip ]; then gzip -n -9 | base64; else base64; fi | tr -d '\n'
}

framed() { # HEAD [LINE...]
  head="tunnelwatch-probe 1 $nonce $1"
  shift
  sum=$(printf '%s\n' "$head" "$@" | sha256sum)
  printf '\n'
  printf '%s\n' "$head" "$@" "tunnelwatch-probe 1 $nonce end ${sum%% *}"
}

nonce=${tw_nonce:-} addresses=${tw_addresses:-} piece=${tw_piece:-1} digest=${tw_digest:-}
case $nonce in
  '' | *[!0-9A-Za-z]*)
    echo 'tw_nonce is missing, or not letters and digits' >&2
    exit 64
    ;;
esac
for tool in awk base64 cut sha256sum sed sort tr; do
  if ! there "$tool"; then
    echo "there is no $tool on this node" >&2
    exit 69
  fi
done
refuse() { # WORDS
  framed "failed $*"
  exit 64
}
case $piece in
  '' | *[!0-9]* | 0* | ???*) refuse tw_piece is no number from 1 to "$PIECES" ;;
esac
case $addresses in
  *[!0-9A-Fa-f:.,]*) refuse tw_addresses holds something that is no address ;;
esac
first=
if [ "$piece" -gt 1 ]; then
  addresses=
  first=${digest##*-}
  case $first in
    '' | *[!0-9]* | 0* | ?????*) refuse tw_digest is not what a first piece says ;;
  esac
fi

coding=plain
if there gzip; then coding=gzip; fi
# For good: a shell that redirects for a while keeps a copy, and what hangs would hold our caller's end open.
exec </dev/null 2>/dev/null
found=$(all "$addresses")
body=$(printf '%s\n' "$found" | sed -e '/^reach /d' | packed)
sum=$(printf %s "$body" | sha256sum)
sum=${sum%% *}
total=${#body}

answers=-
if [ -n "$addresses" ]; then
  said=$(printf '%s\n' "$found" | sed -n -e 's/^reach //p' | sort -n | cut -d ' ' -f 2-)
  answers=$(printf '%s\n' "$said" | packed)
  if [ ${#answers} -gt "$REACH" ]; then
    answers=$(printf '%s\n' "$said" | cut -d ' ' -f 1-2 | packed)
  fi
fi

if [ "$piece" -eq 1 ]; then
  first=$((ROOM - ${#answers}))
  start=0 size=$first
else
  if [ "${digest%-*}" != "$sum" ]; then
    framed "changed $sum"
    exit 0
  fi
  start=$((first + (piece - 2) * ROOM)) size=$ROOM
fi
count=1
if [ "$total" -gt "$first" ]; then count=$((1 + (total - first + ROOM - 1) / ROOM)); fi
if [ "$count" -gt "$PIECES" ]; then
  framed "failed the rules are too many: $total bytes, compressed, and $((PIECES * ROOM)) is the most"
  exit 0
fi
if [ "$piece" -gt "$count" ]; then refuse there are "$count" pieces, and tw_piece is "$piece"; fi
part=$(printf %s "$body" | cut -c "$((start + 1))-$((start + size))")
framed "piece $piece $count $start $total $sum-$first $coding" "$answers" "$part"
