"""Integer instructions as plain functions: mnemonic -> what it computes from unsigned register values.

Written from the specification, for XLEN = `X`, in the most direct way; the results are what the emulator is compared with.
"""


class Isa:
    def __init__(self, xlen):
        self.X = X = xlen
        self.mask = M = (1 << xlen) - 1
        self.rv64 = xlen == 64

        def s(v, n=X):  # signed value of n bits
            v &= (1 << n) - 1
            return v - (1 << n) if v >> (n - 1) else v

        def u(v, n=X):
            return v & ((1 << n) - 1)

        def w(v):  # a 32-bit result in a register
            return s(v, 32) & M

        def tdiv(a, b):  # division rounds towards zero
            q = abs(a) // abs(b)
            return q if (a < 0) == (b < 0) else -q

        def div(a, b, n=X):
            a, b = s(a, n), s(b, n)
            return tdiv(a, b) if b else -1

        def rem(a, b, n=X):
            a, b = s(a, n), s(b, n)
            return a - b * tdiv(a, b) if b else a

        def divu(a, b, n=X):
            a, b = u(a, n), u(b, n)
            return a // b if b else -1

        def remu(a, b, n=X):
            a, b = u(a, n), u(b, n)
            return a % b if b else a

        def sh(b):
            return b % X

        def rol(a, k, n=X):
            a, k = u(a, n), k % n
            return u(a << k | a >> (n - k), n)

        def clmul(a, b):
            r = 0
            for i in range(X):
                if b >> i & 1:
                    r ^= a << i
            return r

        def bytes_of(a, n=8):
            return [a >> i & ((1 << n) - 1) for i in range(0, X, n)]

        def from_bytes(parts, n=8):
            return sum(p << (n * i) for i, p in enumerate(parts))

        def clz(a, n):
            return n - u(a, n).bit_length()

        def ctz(a, n):
            a = u(a, n)
            return (a & -a).bit_length() - 1 if a else n

        def xperm(a, b, n):
            table = bytes_of(a, n)
            return from_bytes([table[i] if i < len(table) else 0 for i in bytes_of(b, n)], n)

        half = X // 2
        # rd, rs1, rs2
        self.r = {
            "add": lambda a, b: a + b, "sub": lambda a, b: a - b,
            "sll": lambda a, b: a << sh(b), "srl": lambda a, b: a >> sh(b), "sra": lambda a, b: s(a) >> sh(b),
            "slt": lambda a, b: s(a) < s(b), "sltu": lambda a, b: a < b,
            "xor": lambda a, b: a ^ b, "or": lambda a, b: a | b, "and": lambda a, b: a & b,
        }
        self.m = {
            "mul": lambda a, b: a * b, "mulh": lambda a, b: s(a) * s(b) >> X,
            "mulhsu": lambda a, b: s(a) * b >> X, "mulhu": lambda a, b: a * b >> X,
            "div": div, "divu": divu, "rem": rem, "remu": remu,
        }
        self.b = {
            "sh1add": lambda a, b: (a << 1) + b, "sh2add": lambda a, b: (a << 2) + b, "sh3add": lambda a, b: (a << 3) + b,
            "andn": lambda a, b: a & ~b, "orn": lambda a, b: a | ~b, "xnor": lambda a, b: ~(a ^ b),
            "min": lambda a, b: min(s(a), s(b)), "max": lambda a, b: max(s(a), s(b)),
            "minu": lambda a, b: min(a, b), "maxu": lambda a, b: max(a, b),
            "rol": lambda a, b: rol(a, sh(b)), "ror": lambda a, b: rol(a, X - sh(b)),
            "clmul": clmul, "clmulh": lambda a, b: clmul(a, b) >> X, "clmulr": lambda a, b: clmul(a, b) >> (X - 1),
            "bset": lambda a, b: a | 1 << sh(b), "bclr": lambda a, b: a & ~(1 << sh(b)),
            "binv": lambda a, b: a ^ 1 << sh(b), "bext": lambda a, b: a >> sh(b) & 1,
            "pack": lambda a, b: u(a, half) | u(b, half) << half, "packh": lambda a, b: u(a, 8) | u(b, 8) << 8,
            "xperm4": lambda a, b: xperm(a, b, 4), "xperm8": lambda a, b: xperm(a, b, 8),
        }
        # czero.eqz, czero.nez: not all assemblers know them
        self.zicond = {
            "czero.eqz": (5, lambda a, b: a if b else 0), "czero.nez": (7, lambda a, b: 0 if b else a),
        }
        # rd, rs1
        self.r1 = {
            "clz": lambda a: clz(a, X), "ctz": lambda a: ctz(a, X), "cpop": lambda a: bin(a).count("1"),
            "sext.b": lambda a: s(a, 8), "sext.h": lambda a: s(a, 16), "zext.h": lambda a: u(a, 16),
            "orc.b": lambda a: from_bytes([255 if p else 0 for p in bytes_of(a)]),
            "rev8": lambda a: from_bytes(bytes_of(a)[::-1]),
            "brev8": lambda a: from_bytes([int(f"{p:08b}"[::-1], 2) for p in bytes_of(a)]),
        }
        # rd, rs1, immediate of 12 bits
        self.i = {
            "addi": lambda a, i: a + i, "slti": lambda a, i: s(a) < i, "sltiu": lambda a, i: a < u(i),
            "xori": lambda a, i: a ^ i, "ori": lambda a, i: a | i, "andi": lambda a, i: a & i,
        }
        # rd, rs1, shift amount
        self.shift = {
            "slli": lambda a, k: a << k, "srli": lambda a, k: a >> k, "srai": lambda a, k: s(a) >> k,
        }
        self.b_shift = {
            "rori": lambda a, k: rol(a, X - k), "bseti": lambda a, k: a | 1 << k, "bclri": lambda a, k: a & ~(1 << k),
            "binvi": lambda a, k: a ^ 1 << k, "bexti": lambda a, k: a >> k & 1,
        }
        self.shift_w, self.b_shift_w = {}, {}
        self.branch = {
            "beq": lambda a, b: a == b, "bne": lambda a, b: a != b, "blt": lambda a, b: s(a) < s(b),
            "bge": lambda a, b: s(a) >= s(b), "bltu": lambda a, b: a < b, "bgeu": lambda a, b: a >= b,
        }
        # Read-modify-write on n bits: what is stored, from the old value and the operand
        self.amo = {
            "amoswap": lambda old, v, n: v, "amoadd": lambda old, v, n: old + v, "amoxor": lambda old, v, n: old ^ v,
            "amoand": lambda old, v, n: old & v, "amoor": lambda old, v, n: old | v,
            "amomin": lambda old, v, n: min(s(old, n), s(v, n)), "amomax": lambda old, v, n: max(s(old, n), s(v, n)),
            "amominu": lambda old, v, n: min(u(old, n), u(v, n)), "amomaxu": lambda old, v, n: max(u(old, n), u(v, n)),
        }
        if self.rv64:
            self.r.update({
                "addw": lambda a, b: w(a + b), "subw": lambda a, b: w(a - b), "sllw": lambda a, b: w(a << b % 32),
                "srlw": lambda a, b: w(u(a, 32) >> b % 32), "sraw": lambda a, b: w(s(a, 32) >> b % 32),
            })
            self.m.update({
                "mulw": lambda a, b: w(a * b), "divw": lambda a, b: w(div(a, b, 32)), "divuw": lambda a, b: w(divu(a, b, 32)),
                "remw": lambda a, b: w(rem(a, b, 32)), "remuw": lambda a, b: w(remu(a, b, 32)),
            })
            self.b.update({
                "add.uw": lambda a, b: u(a, 32) + b, "sh1add.uw": lambda a, b: (u(a, 32) << 1) + b,
                "sh2add.uw": lambda a, b: (u(a, 32) << 2) + b, "sh3add.uw": lambda a, b: (u(a, 32) << 3) + b,
                "rolw": lambda a, b: w(rol(a, b % 32, 32)), "rorw": lambda a, b: w(rol(a, 32 - b % 32, 32)),
                "packw": lambda a, b: w(u(a, 16) | u(b, 16) << 16),
            })
            self.r1.update({
                "clzw": lambda a: clz(a, 32), "ctzw": lambda a: ctz(a, 32), "cpopw": lambda a: bin(u(a, 32)).count("1"),
            })
            self.i["addiw"] = lambda a, i: w(a + i)
            self.shift_w = {
                "slliw": lambda a, k: w(a << k), "srliw": lambda a, k: w(u(a, 32) >> k), "sraiw": lambda a, k: w(s(a, 32) >> k),
            }
            self.b_shift_w = {"roriw": lambda a, k: w(rol(a, 32 - k, 32))}
            self.b_shift["slli.uw"] = lambda a, k: u(a, 32) << k
        else:
            def spread(a, order):
                return int("".join(f"{a:032b}"[31 - i] for i in reversed(order)), 2)
            zipped = [i // 2 + 16 * (i % 2) for i in range(32)]
            self.r1["zip"] = lambda a: spread(a, zipped)
            self.r1["unzip"] = lambda a: spread(a, [zipped.index(i) for i in range(32)])

    def edges(self):
        """Register values worth trying."""
        X = self.X
        values = [0, 1, 2, 3, 5, 31, 32, 63, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                  0xfffffffe, -1, -2, -31, 1 << (X - 1), (1 << (X - 1)) - 1, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa,
                  0x0123456789abcdef, 0xfedcba9876543210, 0x00ff00ff00ff00ff, 0xffffffff80000000, 0x100000000]
        return sorted({v & self.mask for v in values})
