# What the benchmark's awk does: fields of a comma-separated file, associative arrays, string functions, regular
# expressions, and a loop of arithmetic. Whole numbers only.
BEGIN { FS = "," }
{
    count[$2]++
    sum[$2] += $3
    month = substr($5, 6, 2)
    months[month] += $4
    if ($2 ~ /^[a-m].*[rst]$/) {
        matched++
    }
    line = $6
    gsub(/[aeiou]/, "*", line)
    lengths[length($6) % 16] += index(line, "*")
    if ($3 % 5 == 0) {
        swapped = toupper(substr($2, 1, 1)) substr($2, 2)
        letters[substr(swapped, 1, 1)]++
    }
}
function power(base, n, mod,    result) {
    result = 1
    while (n > 0) {
        if (n % 2) {
            result = result * base % mod
        }
        base = base * base % mod
        n = int(n / 2)
    }
    return result
}
END {
    for (name in count) {
        names++
        total += sum[name] * count[name] % 1000003
    }
    print NR, names, total, matched
    for (i = 1; i <= 12; i++) {
        print i, months[sprintf("%02d", i)]
    }
    for (i = 0; i < 16; i++) {
        print i, lengths[i]
    }
    for (i = 1; i < 3000; i++) {
        residue += power(i, 65537, 1000003)
    }
    print residue, letters["A"] + 0, letters["Q"] + 0
}
