# Reads one JSON document and prints a line for each value in it: its path (`/needs/fmt/summary`), a tab, the value.
# Strings lose their quotes and escapes; tabs and line ends in them become spaces. Anything else than JSON: exit code 2.

{ text = text $0 "\n" }

END {
    at = 1
    value("")
    blank()
    if (at <= length(text)) wrong()
}

function value(path,    first) {
    blank()
    first = substr(text, at, 1)
    if (first == "{") members(path, "}")
    else if (first == "[") members(path, "]")
    else if (first == "\"") print path "\t" string()
    else print path "\t" word()
}

function members(path, end,    name, number) {
    at++
    blank()
    while (substr(text, at, 1) != end) {
        name = number++
        if (end == "}") { name = string(); expect(":") }
        value(path "/" name)
        blank()
        if (substr(text, at, 1) != end) { expect(","); blank() }
    }
    at++
}

function string(    plain, next_one) {
    expect("\"")
    while (match(substr(text, at), /["\\]/)) {
        plain = plain substr(text, at, RSTART - 1)
        at += RSTART
        if (substr(text, at - 1, 1) == "\"") { gsub(/[\t\r\n]/, " ", plain); return plain }
        next_one = substr(text, at, 1)
        at++
        if (next_one == "u") { plain = plain "?"; at += 4 }
        else plain = plain (next_one ~ /[bfnrt]/ ? " " : next_one)
    }
    wrong()
}

function word() {
    if (!match(substr(text, at), /^[-+.0-9A-Za-z]+/)) wrong()
    at += RLENGTH
    return substr(text, at - RLENGTH, RLENGTH)
}

function expect(sign) {
    blank()
    if (substr(text, at, 1) != sign) wrong()
    at++
}

function blank() {
    while (substr(text, at, 1) ~ /[ \t\r\n]/) at++
}

function wrong() {
    print "not JSON at character " at > "/dev/stderr"
    exit 2
}
