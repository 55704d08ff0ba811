/*
 * The PLIC. In front of each source is a gateway for a level: while the wire is high and the
 * source is not being served, it makes the source pending. A claim takes the pending bit and marks
 * the source as being served; completion ends that, and a wire that is still high makes it pending
 * again. A pending bit stays when the wire falls (PLIC specification, "Interrupt Gateways"); only
 * a claim clears it.
 *
 * The threshold decides whether a context is interrupted; a claim disregards it.
 */
#include "devices/plic.h"

#include <inttypes.h>
#include <libfdt.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"

enum {
    WORDS = (PLIC_MAX_SOURCES + 1) / 32,
    CONTEXTS = 2 * PLIC_MAX_HARTS,
    MAX_PRIORITY = 7,
    IRQ_M_EXTERNAL = 11, /* interrupt numbers of the harts' own controllers */
    IRQ_S_EXTERNAL = 9,
};

typedef struct Plic {
    Device dev;
    u32 sources, words, contexts;
    u32 priority[PLIC_MAX_SOURCES]; /* of source 1, 2, ... */
    u32 enable[CONTEXTS][WORDS];
    u32 threshold[CONTEXTS];
    u32 level[WORDS], pending[WORDS], serving[WORDS];
} Plic;

static bool get_bit(const u32 *words, unsigned n)
{
    return words[n / 32] >> (n % 32) & 1;
}

static void put_bit(u32 *words, unsigned n, bool v)
{
    words[n / 32] = set_bits(words[n / 32], n % 32, 1, v);
}

/* Ones for the sources that exist: in word 0 not source 0, in the last one not those beyond the
 * end. */
static u32 existing(const Plic *p, unsigned word)
{
    u32 m = word == 0 ? ~1u : ~0u;
    return word == p->sources / 32 ? m & mask64(p->sources % 32 + 1) : m;
}

/* The enabled pending source of the highest priority above `floor`, the lowest number among
 * equals; 0: none. */
static unsigned best(const Plic *p, unsigned context, u32 floor)
{
    unsigned source = 0;
    for (unsigned w = 0; w < p->words; w++) {
        for (u32 m = p->pending[w] & p->enable[context][w]; m; m &= m - 1) {
            unsigned n = 32 * w + __builtin_ctz(m);
            if (p->priority[n - 1] > floor) {
                floor = p->priority[n - 1];
                source = n;
            }
        }
    }
    return source;
}

static void update(Plic *p)
{
    for (unsigned w = 0; w < p->words; w++) {
        p->pending[w] |= p->level[w] & ~p->serving[w];
    }
    for (unsigned c = 0; c < p->contexts; c++) {
        device_set_irq(&p->dev, c, best(p, c, p->threshold[c]) != 0);
    }
}

static void set_source(void *opaque, unsigned n, bool level)
{
    Plic *p = opaque;
    if (n == 0 || n > p->sources) {
        return;
    }
    g_mutex_lock(&p->dev.lock);
    put_bit(p->level, n, level);
    update(p);
    g_mutex_unlock(&p->dev.lock);
}

IrqLine plic_source(Device *plic, unsigned n)
{
    return (IrqLine){set_source, plic, n};
}

static void changed(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                    u64 mask G_GNUC_UNUSED)
{
    update((Plic *)d);
}

static u64 pending_read(Device *d, unsigned index)
{
    return ((Plic *)d)->pending[index];
}

static void enable_write(Device *d, unsigned index, u64 value, u64 mask G_GNUC_UNUSED)
{
    Plic *p = (Plic *)d;
    p->enable[index / WORDS][index % WORDS] = value & existing(p, index % WORDS);
    update(p);
}

static u64 claim_read(Device *d, unsigned context)
{
    Plic *p = (Plic *)d;
    unsigned source = best(p, context, 0);
    if (source) {
        put_bit(p->pending, source, false);
        put_bit(p->serving, source, true);
        update(p);
    }
    return source;
}

static void complete_write(Device *d, unsigned context, u64 value, u64 mask G_GNUC_UNUSED)
{
    Plic *p = (Plic *)d;
    if (value == 0 || value > p->sources || !get_bit(p->enable[context], value)) {
        log_guest_error("%s: context %u completes source %" PRIu64
                        ", which it has not enabled: ignored\n",
                        d->name, context, value);
        return;
    }
    put_bit(p->serving, value, false);
    update(p);
}

static const RegDesc plic_regs[] = {
    {.name = "priority", .offset = 4, .width = 4, .count = PLIC_MAX_SOURCES, .stride = 4,
     .count_at = offsetof(Plic, sources), .at = offsetof(Plic, priority), .wmask = MAX_PRIORITY,
     .write = changed},
    {.name = "pending", .offset = 0x1000, .width = 4, .count = WORDS, .stride = 4,
     .count_at = offsetof(Plic, words), .read = pending_read},
    {.name = "enable", .offset = 0x2000, .width = 4, .count = WORDS, .stride = 4,
     .count_at = offsetof(Plic, words), .rows = CONTEXTS, .row_stride = 0x80,
     .rows_at = offsetof(Plic, contexts), .at = offsetof(Plic, enable), .wmask = UINT32_MAX,
     .write = enable_write},
    {.name = "threshold", .offset = 0x200000, .width = 4, .rows = CONTEXTS, .row_stride = 0x1000,
     .rows_at = offsetof(Plic, contexts), .at = offsetof(Plic, threshold), .wmask = MAX_PRIORITY,
     .write = changed},
    {.name = "claim_complete", .offset = 0x200004, .width = 4, .rows = CONTEXTS,
     .row_stride = 0x1000, .rows_at = offsetof(Plic, contexts), .read = claim_read,
     .write = complete_write},
};

static const StateField plic_fields[] = {
    FIELD(Plic, sources, .kind = FIELD_CONFIG),
    FIELD(Plic, contexts, .kind = FIELD_CONFIG),
    FIELD_ARRAY(Plic, level),
    FIELD_ARRAY(Plic, pending),
    FIELD_ARRAY(Plic, serving),
};

static bool plic_init(Device *d, const void *config, GError **err)
{
    static const PlicConfig standard = {.sources = 95, .harts = 1};
    Plic *p = (Plic *)d;
    const PlicConfig *c = config ? config : &standard;

    if (c->sources < 1 || c->sources > PLIC_MAX_SOURCES || c->harts < 1 ||
        c->harts > PLIC_MAX_HARTS) {
        return stag_error(err, "a PLIC has 1 to %d sources and 1 to %d harts, not %u and %u",
                          PLIC_MAX_SOURCES, PLIC_MAX_HARTS, c->sources, c->harts);
    }
    p->sources = c->sources;
    p->words = c->sources / 32 + 1;
    p->contexts = 2 * c->harts;
    device_make_outputs(d, p->contexts);
    return true;
}

static void plic_update(Device *d)
{
    Plic *p = (Plic *)d;
    /* A snapshot may have bits of sources that do not exist. */
    for (unsigned w = 0; w < WORDS; w++) {
        u32 m = w < p->words ? existing(p, w) : 0;
        p->level[w] &= m;
        p->pending[w] &= m;
        p->serving[w] &= m;
        for (unsigned c = 0; c < p->contexts; c++) {
            p->enable[c][w] &= m;
        }
    }
    update(p);
}

static int plic_fdt(Device *d, void *fdt, int node, const DeviceFdt *env)
{
    int error = fdt_setprop_u32(fdt, node, "riscv,ndev", ((Plic *)d)->sources);
    error = error ? error : fdt_setprop_empty(fdt, node, "interrupt-controller");
    error = error ? error : fdt_setprop_u32(fdt, node, "#interrupt-cells", 1);
    error = error ? error : fdt_setprop_u32(fdt, node, "#address-cells", 0);
    for (unsigned h = 0; !error && h < env->hart_count; h++) {
        const fdt32_t cells[] = {
            cpu_to_fdt32(env->hart_phandles[h]), cpu_to_fdt32(IRQ_M_EXTERNAL),
            cpu_to_fdt32(env->hart_phandles[h]), cpu_to_fdt32(IRQ_S_EXTERNAL),
        };
        error = fdt_appendprop(fdt, node, "interrupts-extended", cells, sizeof(cells));
    }
    return error;
}

const DeviceClass plic_class = {
    .name = "plic",
    .instance_size = sizeof(Plic),
    .region_size = 0x200000 + CONTEXTS * 0x1000,
    .min_access = 4,
    .max_access = 4,
    .regs = plic_regs,
    .reg_count = ARRAY_LEN(plic_regs),
    .fields = plic_fields,
    .field_count = ARRAY_LEN(plic_fields),
    .fdt_name = "plic",
    .compatible = (const char *const[]){"sifive,plic-1.0.0", "riscv,plic0", NULL},
    .init = plic_init,
    .update = plic_update,
    .fdt = plic_fdt,
};
