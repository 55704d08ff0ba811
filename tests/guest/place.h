/*
 * A place that loads, stores and fetches can be tried at: code that returns a tag, a word to load,
 * a word to store to. For tests of what an access is allowed to do.
 */
#ifndef PLACE_H
#define PLACE_H

#include "guest.h"

SNIPPET(load, "lw a0, 0(a0)\n ecall");
SNIPPET(store, "sw a1, 0(a0)\n ecall");
SNIPPET(jump, "jr a0");

enum { LOAD, STORE, FETCH };
static const ulong page_fault[] = {CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE, CAUSE_FETCH_PAGE};
static const ulong access_fault[] = {CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS};
#define EACH_ACCESS(a) for (unsigned a = LOAD; a <= FETCH; a++)

typedef struct Place {
    u32 code[2], value, stored;
} Place;

static inline void place_at(ulong pa, int tag)
{
    *(volatile Place *)pa = (Place){{insn_li_a0(tag), ECALL}, (u32)tag, 0};
}

/* Set where the snippets are mapped for U mode by map_user_snippets(). */
static bool paging;
static inline char *code_for(unsigned mode, char *snippet)
{
    return paging && mode == PRIV_U ? USER(snippet) : snippet;
}

static inline Trap try(unsigned mode, unsigned access, ulong va)
{
    switch (access) {
    case LOAD:
        return run(mode, code_for(mode, load), va + 8, 0);
    case STORE:
        return run(mode, code_for(mode, store), va + 12, 0x77);
    default:
        return run(mode, code_for(mode, jump), va, 0);
    }
}

/* The access at va faults, exactly. */
static inline void expect_fault(const char *file, int line, unsigned mode, unsigned access,
                                ulong va, ulong cause)
{
    Trap t = try(mode, access, va);
    ulong at = access == LOAD ? va + 8 : access == STORE ? va + 12 : va;
    ulong epc = access == FETCH ? va : (ulong)code_for(mode, access == LOAD ? load : store);
    expect_trap(file, line, t, cause, epc, at);
}
#define EXPECT_PAGE_FAULT(mode, access, va)                                                        \
    expect_fault(__FILE__, __LINE__, mode, access, va, page_fault[access])
#define EXPECT_ACCESS_FAULT(mode, access, va)                                                      \
    expect_fault(__FILE__, __LINE__, mode, access, va, access_fault[access])

#endif
