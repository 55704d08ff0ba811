# What the benchmark's Python does: objects and method calls, dictionaries of words, generators, sorting with a key,
# string formatting, a recursive solver, and big integers. Prints numbers that depend on all of it.
import sys


class Packet:
    __slots__ = ("kind", "link", "data")

    def __init__(self, kind, link, data):
        self.kind = kind
        self.link = link
        self.data = data


class Task:
    def __init__(self, name, weight):
        self.name = name
        self.weight = weight
        self.queue = None
        self.done = 0

    def give(self, packet):
        packet.link = self.queue
        self.queue = packet

    def step(self, tasks):
        packet = self.queue
        if packet is None:
            return 0
        self.queue = packet.link
        self.done += 1
        return self.work(packet, tasks)


class Sender(Task):
    def work(self, packet, tasks):
        target = tasks[(packet.data * self.weight + 1) % len(tasks)]
        packet.data = (packet.data * 31 + self.weight) & 0xffff
        target.give(packet)
        return 1


class Counter(Task):
    def work(self, packet, tasks):
        packet.data += 1
        tasks[packet.data % len(tasks)].give(packet)
        return packet.data & 3


def schedule(rounds):
    tasks = [(Sender if i % 2 else Counter)(f"task {i}", i + 3) for i in range(12)]
    for i in range(40):
        tasks[i % 12].give(Packet(i & 1, None, i * 17))
    total = 0
    for _ in range(rounds):
        for task in tasks:
            total += task.step(tasks)
    return total, [task.done for task in tasks]


def words(path):
    counts = {}
    with open(path, encoding="ascii") as file:
        for number, line in enumerate(file):
            if number >= 4500:
                break
            for word in line.lower().replace(",", "").replace(".", "").split():
                counts[word] = counts.get(word, 0) + 1
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]
    return len(counts), ["%s=%d" % item for item in top]


def queens(size, row=0, columns=0, left=0, right=0):
    if row == size:
        return 1
    found = 0
    free = ~(columns | left | right) & ((1 << size) - 1)
    while free:
        bit = free & -free
        free ^= bit
        found += queens(size, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


def primes():
    found = {}
    number = 2
    while True:
        if number not in found:
            yield number
            found[number * number] = [number]
        else:
            for prime in found.pop(number):
                found.setdefault(prime + number, []).append(prime)
        number += 1


def digits(count):
    # Digits of pi, by the spigot of Rabinowitz and Wagon in its unbounded form.
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    out = []
    while len(out) < count:
        if 4 * q + r - t < n * t:
            out.append(str(n))
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = (q * k, (2 * q + r) * l, t * l, k + 1,
                                (q * (7 * k + 2) + r * l) // (t * l), l + 2)
    return "".join(out)


print(schedule(3000))
print(words(sys.argv[1]))
print(queens(8))
stream = primes()
print(sum(next(stream) for _ in range(4000)))
print(digits(220))
print(sum(len(f"{i:>8}|{i * 7:x}") for i in range(8000)))
