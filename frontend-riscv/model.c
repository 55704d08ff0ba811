/*
 * CPU models: what -cpu takes, the sets of extensions behind the names, and the strings by which a machine tells
 * its guest what a hart has. All of it derives from extensions.def.
 */
#include <string.h>

#include "core/base/error.h"
#include "frontend-riscv/frontend.h"

enum { IN_MAX = false, IN_RV = true };
const RiscvExtInfo riscv_ext_info[RISCV_EXT_COUNT] = {
#define X(id, name, implies, models, help) {name, implies, IN_##models, help},
#include "frontend-riscv/extensions.def"
};

static const struct {
    const char *name;
    bool rv32, all;
    const char *help;
} models[] = {
    {"rv64", false, false, "64-bit, the extensions marked * (as QEMU's CPU of this name)"},
    {"rv32", true, false, "32-bit, the extensions marked *"},
    {"max", false, true, "64-bit, all extensions"},
    {"max32", true, true, "32-bit, all extensions"},
};

enum { DEFAULT_PMP_ENTRIES = 16, DEFAULT_TIMEBASE_HZ = 10000000 };

u64 riscv_ext_closure(u64 set)
{
    for (u64 before = 0; before != set;) {
        before = set;
        for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
            if (set >> i & 1) {
                set |= riscv_ext_info[i].implies;
            }
        }
    }
    return set;
}

/* `set` without `ext` and without what can't do without it. */
static u64 without(u64 set, RiscvExt ext)
{
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        if (riscv_ext_closure((u64)1 << i) >> ext & 1) {
            set &= ~((u64)1 << i);
        }
    }
    return set;
}

u32 riscv_misa_letters(u64 set)
{
    u32 letters = 0;
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        const char *name = riscv_ext_info[i].name;
        if ((set >> i & 1) && !name[1]) {
            letters |= 1u << (name[0] - 'a');
        }
    }
    return letters;
}

/* Switches for -cpu that are not extensions. */
static bool set_property(HartModel *model, const char *name, bool on)
{
    if (!strcmp(name, "pmp")) {
        model->pmp_entries = on ? DEFAULT_PMP_ENTRIES : 0;
        return true;
    }
    return false;
}

static bool parse_switch(const char *text, char **name, bool *on)
{
    const char *equals = strchr(text, '=');
    if (text[0] == '+' || text[0] == '-') {
        *on = text[0] == '+';
        *name = g_ascii_strdown(text + 1, -1);
        return !equals;
    }
    const char *value = equals ? equals + 1 : "on";
    *on = !strcmp(value, "on") || !strcmp(value, "true") || !strcmp(value, "yes");
    *name = g_ascii_strdown(text, equals ? equals - text : -1);
    return *on || !strcmp(value, "off") || !strcmp(value, "false") || !strcmp(value, "no");
}

static bool apply_switch(HartModel *model, const char *text, GError **err)
{
    g_autofree char *name = NULL;
    bool on;
    if (!parse_switch(text, &name, &on)) {
        return stag_error(err, "-cpu: \"%s\" is not EXTENSION=on or EXTENSION=off", text);
    }
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        if (strcmp(name, riscv_ext_info[i].name)) {
            continue;
        }
        if (i == RISCV_EXT_I && !on) {
            return stag_error(err, "-cpu: the base instructions (i) can't be switched off");
        }
        model->ext = on ? riscv_ext_closure(model->ext | (u64)1 << i) : without(model->ext, i);
        return true;
    }
    return set_property(model, name, on)
        || stag_error(err, "-cpu: there is no extension \"%s\"; -cpu help lists those that exist", name);
}

HartModel *riscv_model_new(const char *cpu, GError **err)
{
    g_auto(GStrv) words = g_strsplit(cpu, ",", -1);
    const char *name = words[0] ? words[0] : "";
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        if (strcmp(name, models[i].name)) {
            continue;
        }
        HartModel *model = g_new0(HartModel, 1);
        model->rv32 = models[i].rv32;
        model->pmp_entries = DEFAULT_PMP_ENTRIES;
        model->timebase_hz = DEFAULT_TIMEBASE_HZ;
        for (unsigned e = 0; e < RISCV_EXT_COUNT; e++) {
            if (models[i].all || riscv_ext_info[e].in_rv) {
                model->ext |= (u64)1 << e;
            }
        }
        for (char **w = words + 1; *w; w++) {
            if (!apply_switch(model, *w, err)) {
                g_free(model);
                return NULL;
            }
        }
        return model;
    }
    stag_error(err, "-cpu: there is no CPU model \"%s\"; choose rv64, rv32, max or max32", name);
    return NULL;
}

void riscv_model_print_help(FILE *out)
{
    fprintf(out, "-cpu MODEL[,EXTENSION=on|off]...\n\nModels:\n");
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        fprintf(out, "  %-12s %s\n", models[i].name, models[i].help);
    }
    fprintf(out, "\nExtensions:\n");
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        const RiscvExtInfo *e = &riscv_ext_info[i];
        fprintf(out, "%c %-12s %s\n", e->in_rv ? '*' : ' ', e->name, e->help);
    }
    fprintf(out, "\nOther switches:\n  %-12s physical memory protection (%d entries)\n", "pmp",
            DEFAULT_PMP_ENTRIES);
}

/* S and U are modes, not names in ISA strings. */
static bool in_isa_string(const HartModel *model, unsigned ext)
{
    return (model->ext >> ext & 1) && ext != RISCV_EXT_S && ext != RISCV_EXT_U;
}

char *riscv_isa_string(const HartModel *model)
{
    GString *s = g_string_new(model->rv32 ? "rv32" : "rv64");
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        if (in_isa_string(model, i)) {
            const char *name = riscv_ext_info[i].name;
            g_string_append_printf(s, "%s%s", name[1] ? "_" : "", name);
        }
    }
    return g_string_free(s, FALSE);
}

char **riscv_isa_extensions(const HartModel *model)
{
    GPtrArray *list = g_ptr_array_new();
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        if (in_isa_string(model, i)) {
            g_ptr_array_add(list, g_strdup(riscv_ext_info[i].name));
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}
