/*
 * Prints what becomes of small pieces of guest code at each stage: the guest's assembly, the
 * frontend's IR, the optimised IR, and the x86-64 code. golden.py compares it with the text that
 * was committed.
 *
 * Input: lines "case NAME CPU", each followed by a line per instruction: its bits in hex, then
 * anything. Addresses of the host are left out: code addresses are offsets in the block, stubs and
 * helpers go by name.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend-x86_64/backend.h"
#include "core/opt/opt.h"
#include "frontend-riscv/frontend.h"

enum { SPACE = 1 << 20, STUB_AREA = 64 << 10, PAGE = 4096, PLACE = 0x100 };

typedef struct Case {
    char name[64], cpu[64];
    u8 page[PAGE]; /* the code starts at PLACE */
    unsigned bytes, insns;
} Case;

static CodeSpace space;

static void code_space_new(void)
{
    int fd = memfd_create("golden", 0);
    if (fd < 0 || ftruncate(fd, SPACE)) {
        g_error("no memory for code");
    }
    /* At a place where no constant of the cases is. */
    space.exec = mmap((void *)0x30000000, SPACE, PROT_READ | PROT_EXEC,
                      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    u8 *write = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (space.exec == MAP_FAILED || write == MAP_FAILED) {
        g_error("no memory for code");
    }
    space.size = SPACE;
    space.write_delta = write - space.exec;
    close(fd);
}

static Backend *new_backend(const HartModel *model)
{
    unsigned count;
    const IrHotReg *hot = riscv_hot_regs(&count);
    BackendConfig config = {
        .space = space,
        .stub_area = (u32)(uintptr_t)space.exec,
        .stub_area_size = STUB_AREA,
        .hot = hot,
        .hot_count = count,
        .xlen = model->rv32 ? IR_I32 : IR_I64,
    };
    GError *err = NULL;
    Backend *backend = backend_new(&config, &err);
    if (!backend) {
        g_error("%s", err->message);
    }
    return backend;
}

static const char *helper_name(const IrBlock *block, u64 address)
{
    for (const IrHelper *h = block->helpers; h->name; h++) {
        if ((u64)(uintptr_t)h->fn == address) {
            return h->name;
        }
    }
    return NULL;
}

/* Prints a line of the host's disassembly with every number that is an address put in relation to
 * something. */
static void print_host_line(const char *line, u64 start, u64 size, const IrBlock *block)
{
    const char *text = strstr(line, ":  ");
    const char *note = strstr(line, "  ; ");
    if (!text) {
        return;
    }
    u64 here = strtoull(line, NULL, 16);
    printf("  %4" PRIx64 "  ", here - start);
    for (const char *p = text + 3; *p && p != note;) {
        char *end = (char *)p + 1;
        u64 value = p[0] == '0' && p[1] == 'x' ? strtoull(p, &end, 16) : 0;
        if (!value) {
            putchar(*p);
        } else if (value >= start && value <= start + size) {
            printf("@%" PRIx64, value - start);
        } else if (note && value >= (u64)(uintptr_t)space.exec &&
                   value < (u64)(uintptr_t)space.exec + STUB_AREA) {
            printf("%.*s", (int)strcspn(note + 4, "+"), note + 4);
        } else if (helper_name(block, value)) {
            printf("helper:%s", helper_name(block, value));
        } else {
            printf("%.*s", (int)(end - p), p);
        }
        p = end;
    }
    putchar('\n');
}

static void print_host(const Backend *backend, const CompiledBlock *code, const IrBlock *block)
{
    g_autofree char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    backend_disassemble(out, backend, code->start, code->size);
    fclose(out);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        print_host_line(*l, code->start, code->size, block);
    }
}

static void print_case(const Case *c)
{
    static IrInsn insns[IR_MAX_INSNS];
    IrBlock block = {.insns = insns};
    GError *err = NULL;
    HartModel *model = riscv_model_new(c->cpu, &err);
    if (!model) {
        g_error("%s", err->message);
    }
    printf("==== %s (%s)\n", c->name, c->cpu);
    for (unsigned at = 0; at < c->bytes;) {
        char text[96];
        u32 word;
        memcpy(&word, c->page + PLACE + at, 4);
        unsigned length = riscv_disassemble(model, word, PLACE + at, text, sizeof(text));
        printf("  %4x  %s\n", PLACE + at, text);
        at += length;
    }
    TranslateInput in = {model, c->page, PLACE, NULL, c->insns};
    if (riscv_translate(&in, &block) != TRANSLATE_OK) {
        g_error("%s: not translated", c->name);
    }
    printf("-- IR\n");
    ir_print(stdout, &block);
    opt_run(&block);
    g_autofree char *wrong = ir_check(&block);
    if (wrong) {
        g_error("%s: %s", c->name, wrong);
    }
    printf("-- optimised\n");
    ir_print(stdout, &block);
    printf("-- x86-64\n");
    Backend *backend = new_backend(model);
    CompiledBlock code;
    const CodeRoom room = {.at = (u32)(uintptr_t)space.exec + STUB_AREA, .size = SPACE - STUB_AREA};
    if (!backend_compile(backend, &block, 0, &room, &code)) {
        g_error("%s: not compiled", c->name);
    }
    print_host(backend, &code, &block);
    putchar('\n');
    backend_free(backend);
    g_free(model);
}

int main(int argc, char **argv)
{
    FILE *in = argc == 2 ? fopen(argv[1], "r") : NULL;
    GError *err = NULL;
    if (!in) {
        fprintf(stderr, "usage: golden CASES\n");
        return 1;
    }
    if (!backend_host_ok(&err)) {
        printf("skipped: %s\n", err->message);
        return 77;
    }
    code_space_new();
    Case c = {.bytes = 0};
    char line[256];
    while (fgets(line, sizeof(line), in)) {
        char name[64], cpu[64];
        if (sscanf(line, "case %63s %63s", name, cpu) == 2) {
            if (c.bytes) {
                print_case(&c);
            }
            c = (Case){.bytes = 0};
            strcpy(c.name, name);
            strcpy(c.cpu, cpu);
        } else if (g_ascii_isxdigit(line[0])) {
            char *end;
            u32 word = (u32)strtoul(line, &end, 16);
            unsigned length = (unsigned)(end - line) / 2;
            if (c.bytes + length <= PAGE - PLACE) {
                memcpy(c.page + PLACE + c.bytes, &word, length);
                c.bytes += length;
                c.insns++;
            }
        }
    }
    if (c.bytes) {
        print_case(&c);
    }
    fclose(in);
    return 0;
}
