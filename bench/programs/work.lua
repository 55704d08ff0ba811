-- What the benchmark's Lua does: tables as arrays, records and sets, closures, method calls through metatables, string
-- patterns and buffers, recursion. Integers only, so that every machine prints the same.
local Vector = {}
Vector.__index = Vector
Vector.__add = function(a, b) return setmetatable({x = a.x + b.x, y = a.y + b.y}, Vector) end
function Vector:turn() self.x, self.y = -self.y, self.x return self end

local function walk(steps)
    local at, seen, count = setmetatable({x = 0, y = 0}, Vector), {}, 0
    local move = setmetatable({x = 1, y = 0}, Vector)
    local state = 12345
    for _ = 1, steps do
        state = (state * 1103515245 + 12345) & 0x7fffffff
        if state & 0x10000 ~= 0 then move:turn() end
        at = at + move
        local key = at.x * 1000003 + at.y
        if not seen[key] then seen[key] = true count = count + 1 end
    end
    return count, at.x, at.y
end

local function counter(by)
    local n = 0
    return function(x) n = n + x * by return n end
end

local function permute(list, n, visit)
    if n <= 1 then return visit(list) end
    for i = 1, n do
        list[n], list[i] = list[i], list[n]
        permute(list, n - 1, visit)
        list[n], list[i] = list[i], list[n]
    end
end

local function sieve(limit)
    local composite, sum = {}, 0
    for i = 2, limit do
        if not composite[i] then
            sum = sum + i
            for k = i * i, limit, i do composite[k] = true end
        end
    end
    return sum
end

local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end

print(walk(300000))
local add = counter(3)
for i = 1, 600000 do add(i) end
print(add(0))
local checksum = 0
permute({1, 2, 3, 4, 5, 6, 7, 8, 9}, 9, function(list) checksum = (checksum * 31 + list[1] * list[9]) % 1000007 end)
print(checksum)
print(sieve(400000))
print(fib(26))
local words, number = {}, 0
for line in io.lines(arg[1]) do
    number = number + 1
    if number > 3000 then break end
    for word in line:gmatch("%a+") do
        word = word:lower()
        words[word] = (words[word] or 0) + 1
    end
end
local sorted = {}
for word, count in pairs(words) do sorted[#sorted + 1] = string.format("%05d %s", count, word) end
table.sort(sorted)
print(#sorted, table.concat(sorted, " ", #sorted - 20))
