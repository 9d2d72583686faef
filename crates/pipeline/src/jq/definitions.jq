# Filters that jaq lacks, or for which it gives other results than jq.
#
# `rewrite.rs` replaces `/`, `%` and the assignments by calls of `forebay_divide`, `forebay_modulo`
# and `forebay_update`. `arithmetic.rs` and `paths.rs` define the other filters `forebay_*` that are
# called here.

# Evaluate the right side first, as jq does.
def forebay_divide(left; right): right as $r | left as $l | forebay_quotient($l; $r);
def forebay_modulo(left; right): right as $r | left as $l | forebay_remainder($l; $r);

def setpath($path; $value): forebay_set($path; $value);
def delpaths($paths): forebay_delete($paths);
def del(f): delpaths([path(f)]);
def pick(f): . as $dot | reduce path(f) as $p (null; setpath($p; $dot | getpath($p)));

# jaq's own update does not create what is missing on the way, so that is created before. Nothing here
# holds on to `.`, which would have each update copy the object that it changes.
def forebay_update(paths; f): [path(paths)] as $paths | forebay_create($paths) | paths |= f;

def join($separator):
  reduce .[] as $x (null;
    (if . == null then "" else . + $separator end)
    + ($x | if . == null then "" elif type == "boolean" or type == "number" then tojson else . end))
  // "";

def IN(values): any(values == .; .);
def IN(source; values): any(source == values; .);
def INDEX(rows; f): reduce rows as $row ({}; setpath([$row | f | tostring]; $row));
def INDEX(f): INDEX(.[]; f);

def JOIN($index; key): [.[] | [., $index[key]]];
def JOIN($index; rows; key): rows | [., $index[key]];
def JOIN($index; rows; key; joined): rows | [., $index[key]] | joined;

def toarray: if type == "array" then . else [.] end;
def trimstr($text): ltrimstr($text) | rtrimstr($text);
def truncate_stream(f):
  . as $depth | null | f | if (.[0] | length) > $depth then setpath([0]; .[0][$depth:]) else empty end;

def tostream:
  path(def deep: (.[]? | deep), .; deep) as $p
  | getpath($p)
  | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
def fromstream(f):
  {value: null, ended: false} as $start
  | foreach f as $event ($start;
      (if .ended then $start else . end)
      | if ($event | length) == 2 then
          .ended = ($event[0] | length == 0)
          | if .ended then .value = $event[1] else setpath(["value"] + $event[0]; $event[1]) end
        else .ended = ($event[0] | length == 1) end;
      if .ended then .value else empty end);

def @csv:
  [.[] | if type == "number" or type == "boolean" then tojson
         elif . == null then ""
         elif type == "string" then "\"" + gsub("\""; "\"\"") + "\""
         else error("\(type) (\(tojson)) is not valid in a csv row") end]
  | join(",");
def @tsv:
  [.[] | if type == "number" or type == "boolean" then tojson
         elif . == null then ""
         elif type == "string" then
           gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r")
         else error("\(type) (\(tojson)) is not valid in a tsv row") end]
  | join("\t");
