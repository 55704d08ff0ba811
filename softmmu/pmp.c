/*
 * Physical memory protection (privileged spec, chapter "Machine-Level ISA", section "Physical
 * Memory Protection"): the lowest-numbered entry that matches any byte of an access decides, and it
 * has to match all of them. Entries come decoded, see regime.h.
 */
#include "softmmu/internal.h"

u8 pmp_permissions(const PmpState *pmp, u64 pa, u64 size, u8 priv, bool *partial)
{
    u64 last = pa + (size - 1);
    *partial = false;
    for (unsigned i = 0; i < pmp->count; i++) {
        const PmpRange *e = &pmp->range[i];
        if (e->first > e->last || e->first > last || e->last < pa) {
            continue;
        }
        if (e->first <= pa && last <= e->last) {
            return priv == PRIV_M ? e->perms_m : e->perms_su;
        }
        *partial = true;
        return 0;
    }
    return priv == PRIV_M ? pmp->default_m : pmp->default_su;
}

bool pmp_allows(const PmpState *pmp, u64 pa, u64 size, u8 priv, u8 need)
{
    bool partial;
    return (pmp_permissions(pmp, pa, size, priv, &partial) & need) == need;
}

bool pmp_equal(const PmpState *a, const PmpState *b)
{
    if (a->count != b->count || a->default_m != b->default_m || a->default_su != b->default_su) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        const PmpRange *x = &a->range[i], *y = &b->range[i];
        if (x->first != y->first || x->last != y->last || x->perms_m != y->perms_m ||
            x->perms_su != y->perms_su) {
            return false;
        }
    }
    return true;
}
