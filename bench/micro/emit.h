// A small assembler for programs that write code at run time: functions u64 f(u64 x) that work on x with a second
// register y, for RISC-V and for x86-64. The same sequence of calls gives functions that compute the same.

#ifndef EMIT_H
#define EMIT_H

#include <sys/mman.h>

#include "bench.h"

typedef u64 Code(u64 x);

// Where the next instruction goes.
typedef struct {
    u8 *at;
} Emitter;

static u8 *code_buffer(size_t size)
{
    u8 *memory = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        exit(1);
    }
    return memory;
}

// Code from start up to the emitter may be run from here on.
static Code *emit_end(Emitter *e, u8 *start)
{
    __builtin___clear_cache((char *)start, (char *)e->at);
    return (Code *)(void *)start;
}

#if defined __riscv
enum { X = 10, Y = 11, T = 12 };      // a0, a1, a2

static inline void emit_word(Emitter *e, u32 word)
{
    memcpy(e->at, &word, 4);
    e->at += 4;
}

static inline void emit_r(Emitter *e, u32 funct7, u32 funct3, u32 rd, u32 rs1, u32 rs2)
{
    emit_word(e, funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x33);
}

static inline void emit_i(Emitter *e, u32 funct3, u32 rd, u32 rs1, u32 immediate)
{
    emit_word(e, immediate << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x13);
}

static inline void emit_start(Emitter *e) { emit_i(e, 0, Y, X, 0); }                          // y = x
static inline void emit_add_y(Emitter *e) { emit_r(e, 0, 0, X, X, Y); }                       // x += y
static inline void emit_xor_y(Emitter *e) { emit_r(e, 0, 4, X, X, Y); }                       // x ^= y
static inline void emit_mul_y(Emitter *e) { emit_r(e, 1, 0, X, X, Y); }                       // x *= y
static inline void emit_swap(Emitter *e)                                                      // x, y = y, x
{
    emit_i(e, 0, T, X, 0);
    emit_i(e, 0, X, Y, 0);
    emit_i(e, 0, Y, T, 0);
}
static inline void emit_add(Emitter *e, u32 n) { emit_i(e, 0, X, X, n & 0x7ff); }             // x += n; n < 2048
static inline void emit_xor(Emitter *e, u32 n) { emit_i(e, 4, X, X, n & 0x7ff); }             // x ^= n; n < 2048
static inline void emit_shift_right(Emitter *e, u32 n) { emit_i(e, 5, X, X, n & 63); }        // x >>= n
static inline void emit_return(Emitter *e) { emit_word(e, 0x8067); }
// Ends a loop that runs while --y != 0; its body starts at label.
static inline void emit_loop(Emitter *e, const u8 *label)
{
    emit_i(e, 0, Y, Y, 0xfff);
    u32 off = (u32)(label - e->at);
    emit_word(e, (off >> 12 & 1) << 31 | (off >> 5 & 63) << 25 | Y << 15 | 1 << 12 | (off >> 1 & 15) << 8 |
                 (off >> 11 & 1) << 7 | 0x63);
}
static inline void emit_set_y(Emitter *e, u32 n) { emit_i(e, 0, Y, 0, n & 0x7ff); }           // y = n; n < 2048

#elif defined __x86_64__
// x is in rax, y in rcx; the argument comes in rdi.
static inline void emit_bytes(Emitter *e, const char *bytes, u32 count)
{
    memcpy(e->at, bytes, count);
    e->at += count;
}

static inline void emit_with_number(Emitter *e, const char *bytes, u32 count, u32 number)
{
    emit_bytes(e, bytes, count);
    memcpy(e->at, &number, 4);
    e->at += 4;
}

static inline void emit_start(Emitter *e) { emit_bytes(e, "\x48\x89\xf8\x48\x89\xf9", 6); }
static inline void emit_add_y(Emitter *e) { emit_bytes(e, "\x48\x01\xc8", 3); }
static inline void emit_xor_y(Emitter *e) { emit_bytes(e, "\x48\x31\xc8", 3); }
static inline void emit_mul_y(Emitter *e) { emit_bytes(e, "\x48\x0f\xaf\xc1", 4); }
static inline void emit_swap(Emitter *e) { emit_bytes(e, "\x48\x91", 2); }
static inline void emit_add(Emitter *e, u32 n) { emit_with_number(e, "\x48\x05", 2, n & 0x7ff); }
static inline void emit_xor(Emitter *e, u32 n) { emit_with_number(e, "\x48\x35", 2, n & 0x7ff); }
static inline void emit_shift_right(Emitter *e, u32 n)
{
    emit_bytes(e, "\x48\xc1\xe8", 3);
    *e->at++ = (u8)(n & 63);
}
static inline void emit_return(Emitter *e) { emit_bytes(e, "\xc3", 1); }
static inline void emit_loop(Emitter *e, const u8 *label)
{
    emit_bytes(e, "\x48\xff\xc9", 3);
    emit_with_number(e, "\x0f\x85", 2, (u32)(label - (e->at + 6)));
}
static inline void emit_set_y(Emitter *e, u32 n) { emit_with_number(e, "\xb9", 1, n & 0x7ff); }
#else
#error "no assembler for this processor"
#endif

// One operation of eight, chosen by a random number that also gives its operand.
static inline void emit_any(Emitter *e, u64 random)
{
    u32 n = random >> 8 & 0x7ff;
    switch (random & 7) {
    case 0: emit_add_y(e); break;
    case 1: emit_xor_y(e); break;
    case 2: emit_mul_y(e); break;
    case 3: emit_swap(e); break;
    case 4: emit_shift_right(e, n % 17 + 1); emit_add_y(e); break;
    case 5: emit_xor(e, n); break;
    default: emit_add(e, n); break;
    }
}

#endif
