/*
 * Host code as text, for -d out_asm: capstone, with shared stubs by name. Code ends at a breakpoint
 * instruction, which is emitted nowhere else; records that follow a call of an evaluation stub are
 * data.
 */
#include <capstone/capstone.h>
#include <inttypes.h>

#include "backend-x86_64/compiler.h"

typedef struct Lookup {
    u64 address;
    const char *name;
    u32 offset;
} Lookup;

static void match_stub(void *opaque, const char *name, u32 start, u32 size)
{
    Lookup *l = opaque;
    if (l->address >= start && l->address < (u64)start + size) {
        l->name = name;
        l->offset = (u32)l->address - start;
    }
}

void backend_disassemble(FILE *out, const Backend *backend, u32 start, u32 size)
{
    csh handle;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) {
        return;
    }
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    const u8 *code = code_writable(&backend->config.space, start);
    size_t left = size;
    u64 address = start;
    cs_insn *insn = cs_malloc(handle);
    while (left && *code != 0xcc && cs_disasm_iter(handle, &code, &left, &address, insn)) {
        fprintf(out, "  %08" PRIx64 ":  %s%s%s", insn->address, insn->mnemonic,
                insn->op_str[0] ? " " : "", insn->op_str);
        const cs_x86 *x = &insn->detail->x86;
        if (x->op_count == 1 && x->operands[0].type == X86_OP_IMM) {
            Lookup l = {.address = (u64)x->operands[0].imm};
            backend_for_each_stub(backend, match_stub, &l);
            if (l.name) {
                fprintf(out, l.offset ? "  ; %s+%u" : "  ; %s", l.name, l.offset);
            }
            if (l.address == backend->stubs.eval_fp || l.address == backend->stubs.eval_int) {
                const size_t data = 2 + sizeof(IrInsn);
                const size_t skip = left < data ? left : data;
                code += skip;
                left -= skip;
                address += skip;
            }
        }
        fputc('\n', out);
    }
    cs_free(insn, 1);
    cs_close(&handle);
}
