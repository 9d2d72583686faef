#!/usr/bin/env python3
"""Runs the expressions below with the real jq, and writes its results for src/jq/differences.rs.

    generate.py            writes cases.jsonl beside this file
    generate.py --check    fails if cases.jsonl differs from the results of jq

Needs the Python package jq 1.13.0, which embeds jq 1.8.
"""

import json
import sys
from pathlib import Path

import jq

TEXT = "A café, déjà-vu; naïve?\n"
RECORD = {
    "id": 7,
    "name": "Ada",
    "tags": ["x", "y", "x"],
    "score": 0.75,
    "nested": {"a": [1, 2, {"b": None}], "empty": {}},
    "flag": True,
    "none": None,
}
PEOPLE = [
    {"name": "Ada", "age": 36, "team": "a"},
    {"name": "Bob", "age": 25, "team": "b"},
    {"name": "Cy", "age": 41, "team": "a"},
]


class Raw(str):
    """An input as JSON text, because Python would change its numbers."""


# An input, and the expressions that are run on it.
CASES = [
    (RECORD, r"""
.id
.name
.missing
.nested.a
.nested.a[2].b
.nested.a[-1]
.nested.a[1:]
.nested.a[:1]
.nested.a[-2:]
.nested["a"][0]
.["name"]
.tags[0]
.tags[9]
.tags | length
.name | length
.none | length
.nested | length
keys
keys_unsorted
.nested | keys
has("id")
has("nope")
.tags | has(1)
.tags | has(5)
to_entries | length
.nested | to_entries
with_entries(.value |= tostring)
{id, name}
{id: .id, tags: (.tags | length)}
{(.name): .id}
{"a b": .id}
{"x\(.id)": 1}
[.tags[] | ascii_upcase]
.tags | unique
.tags | sort
.tags | reverse
.tags | index("x")
.tags | rindex("x")
.tags | indices("x")
.tags | join("-")
.tags + ["z"]
.tags - ["x"]
.tags | contains(["x"])
.tags | inside(["x","y","z"])
.tags | first
.tags | last
.tags | map(. + "!")
.tags | any(. == "y")
.tags | all(. == "x")
.tags | group_by(.)
.tags | min
.tags | max
.tags | add
.tags | flatten
.tags | tojson
.tags | @json
.tags | @csv
.tags | @tsv
.tags | @text
.name | @base64
.name | @uri
.name | @html
.name | @sh
.name | ascii_downcase
.name | ascii_upcase
.name | explode
.name | explode | implode
.name | startswith("A")
.name | endswith("a")
.name | ltrimstr("A")
.name | rtrimstr("a")
.name | split("d")
.name | test("d")
.name | tojson | fromjson
.id | tostring
.id | tojson
"id: \(.id)"
.id + 1
.id - 10
.id * 2
.id / 2
.id % 4
-.id
.id | sqrt
.id | pow(.; 2)
.id | floor
.score | ceil
.score | round
.score * 100
.score > 0.5
.id == 7.0
.id != 7
.flag and .none
.flag or .none
.flag | not
.none // "default"
.id // "default"
.missing.deeper
if .flag then "yes" else "no" end
if .none then 1 elif .flag then 2 else 3 end
if .flag then 1 end
[.nested.a[] | numbers]
[.[] | strings]
[.[] | type]
.nested.a | map(type)
[paths] | length
[leaf_paths] | length
getpath(["nested", "a", 0])
getpath(["no", "way"])
setpath(["nested", "a", 0]; 9)
delpaths([["id"], ["nested"]])
del(.id)
del(.nested.a[0])
del(.tags[0,2])
del(.tags[-1])
del(.nope)
.id = 8
.id |= . + 1
.tags[0] = "first"
.tags[5] = "far"
.new.deep = 1
.id += 1
.id -= 1
.id *= 2
.id /= 2
.id %= 4
.none //= "set"
.tags[] |= ascii_upcase
.tags |= map(select(. != "x"))
.nested * {"a": 1}
.nested + {"c": 1}
[.tags | to_entries[] | [.key, .value]]
[.tags[] as $t | $t + "1"]
. as {id: $i, name: $n} | [$i, $n]
.tags as [$a, $b] | {$a, $b}
reduce .tags[] as $t (""; . + $t)
[foreach .tags[] as $t (0; . + 1; [., $t])]
[limit(2; .tags[])]
[first(.tags[])]
[.tags[] | select(. == "x")]
[range(3)]
[range(1; 4)]
[range(0; 10; 3)]
[.id, .score] | add
[.id, .score] | add / length
try error("no") catch .
try (.name + 1) catch "caught"
.name + 1
[.[]?] | length
.name[0]?
(.name | tonumber)? // "none"
"12" | tonumber
"1e3" | tonumber
"x" | tonumber
.nested | tostream
[.nested | tostream] | length
fromstream(.nested | tostream)
[.nested | .. | numbers]
env | type
input_line_number
$__loc__ | .line
[splits("a"; "b")]?
isvalid(.id)?
walk(if type == "number" then . + 1 else . end)
transpose?
.nested.a | tojson
ascii(65)?
@json "x\(.tags)"
@base64 "x\(.name)"
"QWRh" | @base64d
.tags | tostring
.tags | implode?
[.tags[] | ascii_downcase] | unique | length
"\(1 + 2) is \("three")"
[.tags, .nested.a] | map(length)
.tags | .[1:] | .[0]
[.tags[:2], .tags[2:]]
.name[1:]
.name[:-1]
.nested | has("a", "z")
[.nested.a[0], .nested.a[1]] | min
(.tags | length) as $n | $n * 2
def f: . + 1; .id | f
def f(x): x * 2; f(.id)
def f($x; $y): $x + $y; f(.id; 1)
label $out | 1, break $out
[label $out | .tags[] | if . == "y" then break $out else . end]
[.id] | IN(7)
.id | IN(7, 8)
any(.tags[]; . == "x")
all(.tags[]; . == "x")
.tags | combinations?
[.tags[:2], [1,2]] | [combinations]
ltrimstr(1)?
[.tags[] | {(.): 1}] | add
now | type
0 | todate
"2015-03-05T23:51:47Z" | fromdate
1425599507 | todate
1425599507 | gmtime
1425599507 | strftime("%Y-%m-%d")
"2015-03-05" | strptime("%Y-%m-%d") | mktime
"10:20" | split(":") | map(tonumber)
.id | tojson | ascii_downcase
[.nested.a[] | select(type == "number")] | add
getpath(["tags", 1])
[paths(type == "number")]
pick(.nested.a[1])
debug | .id
error
error(null)
.[0]
.tags.x
{} | .a.b.c
[] | .[3]
null | .[2] = 1
[.tags[] | ltrimstr("x")]
[.tags[] | trim]
"  a " | trim, ltrim, rtrim
"abc" | .[1:2]
abs
.id | abs
-5 | abs
have_literal_numbers
.nested.a | have_decnum?
[.tags[] | length] | add
limit(0; .tags[])
[skip(1; .tags[])]
.tags | getpath([0])
splits("x")?
@sh "echo \(.name)"
ltrimstr("A") | type
[.id, null, true] | map(tostring)
[1, [2, [3]]] | flatten(1)
[3, 1, 2] | sort_by(-.)
[{"a": 2}, {"a": 1}] | min_by(.a)
[{"a": 2}, {"a": 1}] | max_by(.a)
"a,b" | split(",") | join(";")
"a-b_c" | gsub("[-_]"; " ")
"abab" | sub("b"; "x")
"aXbX" | ascii_downcase | gsub("x"; "")
tojson | fromjson | .id
"[1,2" | fromjson
"NaN" | fromjson | type
ascii
@foo "x"
$ENV | type
$ENV.HOME | type
input
inputs
getpath("a")
.tags | bsearch("x")
[1, 3, 5] | bsearch(3), bsearch(4)
splits
"a" * 3
"a" * 0
"x" / ","
{} * 1
[] - 1
null + 1
null - 1
{} + null
[1] + null
1 + "a"
[1, 2] == [1, 2.0]
{"a": 1} == {"a": 1.0}
[null, false, 0, "", [], {}] | sort
[[], {}, "a", 1, null, true, false] | sort
{"b": 1, "a": 2} | keys, tojson
{"b": 1, "a": 2} | to_entries | map(.key)
[{"k": "a", "v": 1}] | from_entries
[["a", 1]] | map({(.[0]): .[1]}) | add
limit(-1; 1, 2)
[.[]] | length
.. | numbers
[..] | length
[.tags[1:][] ]
.tags[1:] = ["new"]
.tags[:1] |= map(. + "0")
to_entries[0]
ascii_downcase?
@uri "q=\(.name) b"
"caf\u00e9" | @uri
"<&'\">" | @html
[1.5, "a\"b", null, true] | @csv
["a\tb", 1] | @tsv
[1, "a b"] | @sh
"é" | utf8bytelength
"é" | length
"aé" | explode
getpath(["nested","a"]) | last
tojson | length > 10
significand?
3.7 | trunc
[1, 2, 3] | .[1:] | first
[1, 2] | .[1.7]
[1, 2] | .["a"]?
"x" as $x | "y" as $y | $x + $y
[recurse(if . < 3 then . + 1 else empty end)]?
2 | [recurse(if . < 4 then . + 1 else empty end)]
[while(. < 5; . + 1)]?
1 | [while(. < 5; . * 2)]
1 | [until(. > 100; . * 2)]
[repeat(.; 1)]?
1 as $x | [$x, $x + 1]
. as [$a] ?// {id: $a} | $a
[.tags[] | test("^x$")]
splits("a", "b")?
ltrimstr("zzz") | type
ascii_upcase?
getpath([]) | type
""", ),
    ({"a": 1, "b": 0, "big": 1e308, "neg": -7, "x": 5.9, "y": 3.1}, r"""
.a / .b
.b / .b
.a % .b
.a / .b > 0.5
try (.a / .b) catch .
.big * 10
.big * 10 - .big * 10
.x % .y
.neg % 3
.neg % -3
7 % .neg
5 % 0.5
1 / 3
.a /= .b
.a %= .b
(.a, .neg) / (1, 2)
[(1, 2) / (1, 2)]
[(1, 2) % (1, 2)]
"abc" / "b"
"abc" % "b"
nan
infinite
-infinite
[nan] | tojson
nan > 1
nan < nan
[nan, 1] | sort
nan == nan
infinite | floor
0 / 1
-0
[1, 2, 3] | add / length
10 / 4 | floor
.a / (.b + 2)
def half: . / 2; .x | half
[.x, .y] | map(. / 2)
{q: (.x / .y)} | .q > 1
if .b == 0 then 0 else .a / .b end
"\(7 / 2)"
[.[] / 2]
reduce (1, 2, 4) as $d (16; . / $d)
[foreach (1, 2) as $d (8; . / $d)]
try (1 % 0) catch .
1e1000
1e-1000
5 as $x | $x / 2
[10, 3] | .[0] % .[1]
[range(0; 1; 0.3)]
log2?
8 | log2
100 | log10
2 | exp2
9 | sqrt
[3.5, -3.5, 2.5] | map(round)
[3.5, -3.5] | map(trunc)
17 | tostring
1.0
1.50
100000000000000000000
[1, 1.0, 1.10]
3.0 | tostring
3.0 | floor | tostring
1e3 | tostring
1.1e1
0.1 + 0.2
9007199254740993
9007199254740993 + 0
-9007199254740993
18446744073709551617
18446744073709551617 | tostring
18446744073709551617 + 1
[18446744073709551617] | .[0]
""", ),
    (18446744073709551617, ".\n. == .\ntostring\ntojson\n[.]\n. + 0\n-.\ntype\n. > 1\n"),
    (Raw("[1.10, 1e2, 0.1e-7, 123456789.123456789, 1e400, -0.0, 0]"), ".\n.[0]\nmap(. + 0)\n.[1] | tostring\nmap(tojson)\nadd\nsort\n.[4]\nmap(type)\n"),
    (TEXT, r"""
gsub("\\W+"; " ")
test("É")
test("É"; "i")
test("\\bcafé\\b")
[match("\\w+"; "g").string]
[match("é"; "g").offset]
[scan("\\p{L}+")]
[scan("[[:alpha:]]+")]
[scan("[[:punct:]]")]
test("a$")
test("\\?$")
test("^A")
test("e\\?\\n")
test("(?<=d)é")
test("(?<!c)a")
test("(\\w)\\1")
[scan("(?<first>\\w)(\\w+)")]
capture("(?<word>caf.)")
[match("(x)?A").captures]
[match(""; "g").offset] | length
sub("(?<w>\\w+)"; "<\(.w)>")
gsub("(?<w>é)"; "e")
gsub("é|à|ï"; "?")
gsub(""; "-") | length
gsub("^"; ">")
gsub("$"; "<")
split(", *"; null)
[splits("[,;] *")]
ascii_downcase
ascii_upcase
test("DÉJÀ"; "i")
test("a.c"; "x")
test("a c a f"; "xi")
[match("a"; "gi").offset]
test("."; "z")
test("("; "g")
test("é.*ï")
test("ï.*n"; "p")
[match("v(?=u)").offset]
test("\\d")
test("\\s\\z")
test("\\S")
test("[^\\x00-\\x7f]")
[scan("[éàï]")]
[scan(".")] | length
explode | length
ltrimstr("A ")
rtrimstr("\n")
trim
startswith("A c")
index("é")
indices("é")
.[2:6]
length
utf8bytelength
@uri
@base64
test("[[:space:]]$")
test("[[:upper:]]")
[scan("[[:digit:]]")]
[match("(?<a>z)|(?<b>f)").captures[].name]
test("\\Acaf")
test("ve\\?\\Z")
[scan("\\h")] | length
sub("é"; "e"; "g")
[limit(2; match("\\w"; "g").string)]
ascii?
tojson
split("é")
split("")
test(["É", "i"])
""", ),
    (["a", None, 1, True], r"""
join(",")
join("")
join(", ")
map(tostring) | join(",")
add
.[0,2]
del(.[0,2])
del(.[0], .[1])
del(.[1:3])
.[1:3] = []
.[6] = 1
.[-1]
.[-9]
.[-1] = 9
.[-9] = 9
first, last
nth(1)
nth(9)
to_entries | length
map(. == null)
map(values)
map(nulls)
map(scalars) | length
index(1)
. - [null]
unique
sort
group_by(type) | length
min, max
contains(["a"])
inside(["a", null, 1, true, 2])
[.[] | select(type == "string")]
[.[] | numbers] | add
any
all
flatten
reverse
tojson
map(length?)
@csv
@tsv
@sh
length
.[1] |= 5
map_values(.)
map_values(empty)
map(empty)
[.[] | try error(.) catch .]
""", ),
    ([], r"""
.[100] = 1
.[2] = 1
add
min
max
first
last
join(",")
any
all
unique
length
.[0]
flatten
reverse
sort
group_by(.)
to_entries
from_entries
transpose
@csv
tojson
""", ),
    (PEOPLE, r"""
map(.name)
map(select(.age > 30)) | length
sort_by(.age) | map(.name)
sort_by(.team, .age) | map(.name)
group_by(.team) | map({team: .[0].team, n: length})
unique_by(.team) | length
min_by(.age).name
max_by(.age).name
map(.age) | add / length
map({(.name): .age}) | add
INDEX(.name) | keys
[.[] | {name, adult: (.age >= 18)}] | length
map(del(.team)) | .[0]
map(has("team")) | all
[.[] | .name as $n | .age | "\($n): \(.)"]
any(.[]; .age > 40)
reduce .[] as $p ({}; .[$p.team] += [$p.name])
reduce .[] as $p ({}; .[$p.team] += 1)
[limit(1; .[] | select(.team == "a") | .name)]
map(.age % 10)
map(.age / 2)
to_entries | map(.key)
[.[].name] | join(", ")
first(.[] | select(.team == "b")).name
map(.name | length)
map(.name | ascii_upcase | .[0:1])
(map(.age) | max) as $m | map(select(.age == $m))[0].name
.[0] * {"team": "z"}
map(to_entries | length)
[.[] | tojson] | length
.[1:] | length
map(.missing)
map(.missing // 0) | add
with_entries(.value |= .name)
[paths] | length
[getpath([0, "name"], [1, "name"])]
map(.age |= . + 1) | map(.age)
limit(2; .[]) | .name
GROUP_BY(.team)?
getpath([5, "name"])
ltrimstr("x") | length
splits("x")?
map(.age) | sort | reverse
map(.age) | [min, max]
""", ),
]


def lines():
    """A line with an input, then a line for each expression that is run on it."""
    for value, expressions in CASES:
        text = value if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)
        yield json.dumps({"input": text}, ensure_ascii=False)
        for expression in expressions.strip("\n").split("\n"):
            case = {"jq": expression}
            try:
                # Results as text, because Python would change their numbers.
                results = jq.compile(expression).input_text(text).text()
                case["results"] = results.split("\n") if results else []
            except ValueError as error:
                case["error"] = str(error).split("\n")[0]
            yield json.dumps(case, ensure_ascii=False)


def main():
    path = Path(__file__).with_name("cases.jsonl")
    text = "\n".join(lines()) + "\n"
    if sys.argv[1:] == ["--check"]:
        if path.read_text() != text:
            sys.exit(f"{path} differs from the results of jq; run {__file__}")
        print("cases.jsonl agrees with jq")
    else:
        path.write_text(text)


if __name__ == "__main__":
    main()
