"""Operand formats: where an instruction's operands are in its bits, and how they are written.

A format is (fields, assembly, options). Fields are separated by blanks:

  rd=11:7         a register number in these bits; rd rs1 rs2 rs3 rm aqrl
  rd=c4:2         a three-bit register number of a compressed instruction: x8 to x15 (f8 to f15)
  rd=#2           always this number
  imm=s[31:25]12|10:5[11:7]4:1|11
                  an immediate, signed (s) or unsigned (u), written as in the specification's encoding
                  diagrams: bits 31:25 of the instruction hold the immediate's bits 12 and 10:5, and so on

Assembly is what disasm.c writes: words stand for operands (rd, rs1.. integer registers; frd, frs1.. f registers; imm decimal;
hex upper20, csr, uimm (the number in rs1), target, rm, ...; see disasm.c), everything else for itself.

Options: shamt=N: on RV32 bit N, the sixth of a shift amount, must be 0; rm: the rounding modes 5 and 6 are reserved.
"""

IMM_I = "imm=s[31:20]11:0"
IMM_S = "imm=s[31:25]11:5[11:7]4:0"
IMM_CI = "imm=s[12]5[6:2]4:0"
IMM_CB = "imm=s[12:10]8|4:3[6:2]7:6|2:1|5"
IMM_CW = "imm=u[12:10]5:3[6:5]2|6"
IMM_CD = "imm=u[12:10]5:3[6:5]7:6"

FORMATS = {
    # Integer, 32 bits.
    "N": ("", "", ""),
    "R": ("rd=11:7 rs1=19:15 rs2=24:20", "rd,rs1,rs2", ""),
    "R1": ("rd=11:7 rs1=19:15", "rd,rs1", ""),
    "S1": ("rs1=19:15", "rs1", ""),
    "S1P": ("rs1=19:15", "(rs1)", ""),
    "S12": ("rs1=19:15 rs2=24:20", "rs1,rs2", ""),
    "RS2": ("rs2=24:20", "rs2", ""),
    "I": ("rd=11:7 rs1=19:15 " + IMM_I, "rd,rs1,imm", ""),
    "SH": ("rd=11:7 rs1=19:15 imm=u[25:20]5:0", "rd,rs1,shamt", "shamt=25"),
    "SHW": ("rd=11:7 rs1=19:15 imm=u[24:20]4:0", "rd,rs1,shamt", ""),
    "LOAD": ("rd=11:7 rs1=19:15 " + IMM_I, "rd,imm(rs1)", ""),
    "S": ("rs1=19:15 rs2=24:20 " + IMM_S, "rs2,imm(rs1)", ""),
    "B": ("rs1=19:15 rs2=24:20 imm=s[31:25]12|10:5[11:7]4:1|11", "rs1,rs2,target", ""),
    "U": ("rd=11:7 imm=s[31:12]31:12", "rd,upper20", ""),
    "J": ("rd=11:7 imm=s[31:12]20|10:1|11|19:12", "rd,target", ""),
    "FENCE": ("rs1=19:15 rd=11:7 imm=u[31:20]11:0", "pred,succ", ""),
    "PREF": ("rs1=19:15 imm=s[31:25]11:5", "imm(rs1)", ""),
    "CSR": ("rd=11:7 rs1=19:15 imm=u[31:20]11:0", "rd,csr,rs1", ""),
    "CSRI": ("rd=11:7 rs1=19:15 imm=u[31:20]11:0", "rd,csr,uimm", ""),
    # Atomics: the suffixes .aq, .rl, .aqrl come from aqrl.
    "AMO": ("rd=11:7 rs1=19:15 rs2=24:20 aqrl=26:25", "rd,rs2,(rs1)", ""),
    "LR": ("rd=11:7 rs1=19:15 aqrl=26:25", "rd,(rs1)", ""),
    # Floating point: FRM, F1M, ... have a rounding mode; so have F1E and FXE, but their results are always exact, and
    # assemblers set the mode to 0 and don't write it.
    "FR": ("rd=11:7 rs1=19:15 rs2=24:20", "frd,frs1,frs2", ""),
    "FRM": ("rd=11:7 rs1=19:15 rs2=24:20 rm=14:12", "frd,frs1,frs2,rm", "rm"),
    "FR4": ("rd=11:7 rs1=19:15 rs2=24:20 rs3=31:27 rm=14:12", "frd,frs1,frs2,frs3,rm", "rm"),
    "F1": ("rd=11:7 rs1=19:15", "frd,frs1", ""),
    "F1E": ("rd=11:7 rs1=19:15 rm=14:12", "frd,frs1,exact", "rm"),
    "F1M": ("rd=11:7 rs1=19:15 rm=14:12", "frd,frs1,rm", "rm"),
    "XF": ("rd=11:7 rs1=19:15", "rd,frs1", ""),
    "XFM": ("rd=11:7 rs1=19:15 rm=14:12", "rd,frs1,rm", "rm"),
    "XFF": ("rd=11:7 rs1=19:15 rs2=24:20", "rd,frs1,frs2", ""),
    "FX": ("rd=11:7 rs1=19:15", "frd,rs1", ""),
    "FXE": ("rd=11:7 rs1=19:15 rm=14:12", "frd,rs1,exact", "rm"),
    "FXM": ("rd=11:7 rs1=19:15 rm=14:12", "frd,rs1,rm", "rm"),
    "FXX": ("rd=11:7 rs1=19:15 rs2=24:20", "frd,rs1,rs2", ""),
    "FLI": ("rd=11:7 rs1=19:15", "frd,fli", ""),
    "FLOAD": ("rd=11:7 rs1=19:15 " + IMM_I, "frd,imm(rs1)", ""),
    "FSTORE": ("rs1=19:15 rs2=24:20 " + IMM_S, "frs2,imm(rs1)", ""),
    # Compressed. The operands are those of the instruction that is meant: c.add rd,rs2 is add rd,rd,rs2.
    "CN": ("", "", ""),
    "CR": ("rd=11:7 rs1=11:7 rs2=6:2", "rd,rs2", ""),
    "CMV": ("rd=11:7 rs1=#0 rs2=6:2", "rd,rs2", ""),
    "CJR": ("rd=#0 rs1=11:7", "rs1", ""),
    "CJALR": ("rd=#1 rs1=11:7", "rs1", ""),
    "CI": ("rd=11:7 rs1=11:7 " + IMM_CI, "rd,imm", ""),
    "CLI": ("rd=11:7 rs1=#0 " + IMM_CI, "rd,imm", ""),
    "CLUI": ("rd=11:7 imm=s[12]17[6:2]16:12", "rd,upper20", ""),
    "CI16SP": ("rd=#2 rs1=#2 imm=s[12]9[6:2]4|6|8:7|5", "rd,imm", ""),
    "CISH": ("rd=11:7 rs1=11:7 imm=u[12]5[6:2]4:0", "rd,shamt", "shamt=12"),
    "CIW": ("rd=c4:2 rs1=#2 imm=u[12:5]5:4|9:6|2|3", "rd,rs1,imm", ""),
    "CLW": ("rd=c4:2 rs1=c9:7 " + IMM_CW, "rd,imm(rs1)", ""),
    "CLD": ("rd=c4:2 rs1=c9:7 " + IMM_CD, "rd,imm(rs1)", ""),
    "CSW": ("rs2=c4:2 rs1=c9:7 " + IMM_CW, "rs2,imm(rs1)", ""),
    "CSD": ("rs2=c4:2 rs1=c9:7 " + IMM_CD, "rs2,imm(rs1)", ""),
    "CLWSP": ("rd=11:7 rs1=#2 imm=u[12]5[6:2]4:2|7:6", "rd,imm(rs1)", ""),
    "CLDSP": ("rd=11:7 rs1=#2 imm=u[12]5[6:2]4:3|8:6", "rd,imm(rs1)", ""),
    "CSWSP": ("rs2=6:2 rs1=#2 imm=u[12:7]5:2|7:6", "rs2,imm(rs1)", ""),
    "CSDSP": ("rs2=6:2 rs1=#2 imm=u[12:7]5:3|8:6", "rs2,imm(rs1)", ""),
    "CA": ("rd=c9:7 rs1=c9:7 rs2=c4:2", "rd,rs2", ""),
    "CBI": ("rd=c9:7 rs1=c9:7 " + IMM_CI, "rd,imm", ""),
    "CBSH": ("rd=c9:7 rs1=c9:7 imm=u[12]5[6:2]4:0", "rd,shamt", "shamt=12"),
    "CB": ("rs1=c9:7 rs2=#0 " + IMM_CB, "rs1,target", ""),
    "CJ": ("rd=#0 imm=s[12:2]11|4|9:8|10|6|7|3:1|5", "target", ""),
    "CJAL": ("rd=#1 imm=s[12:2]11|4|9:8|10|6|7|3:1|5", "target", ""),
    "CU": ("rd=c9:7 rs1=c9:7", "rd", ""),
    "CLB": ("rd=c4:2 rs1=c9:7 imm=u[6:5]0|1", "rd,imm(rs1)", ""),
    "CLH": ("rd=c4:2 rs1=c9:7 imm=u[5]1", "rd,imm(rs1)", ""),
    "CSB": ("rs2=c4:2 rs1=c9:7 imm=u[6:5]0|1", "rs2,imm(rs1)", ""),
    "CSH": ("rs2=c4:2 rs1=c9:7 imm=u[5]1", "rs2,imm(rs1)", ""),
    "CFLW": ("rd=c4:2 rs1=c9:7 " + IMM_CW, "frd,imm(rs1)", ""),
    "CFLD": ("rd=c4:2 rs1=c9:7 " + IMM_CD, "frd,imm(rs1)", ""),
    "CFSW": ("rs2=c4:2 rs1=c9:7 " + IMM_CW, "frs2,imm(rs1)", ""),
    "CFSD": ("rs2=c4:2 rs1=c9:7 " + IMM_CD, "frs2,imm(rs1)", ""),
    "CFLWSP": ("rd=11:7 rs1=#2 imm=u[12]5[6:2]4:2|7:6", "frd,imm(rs1)", ""),
    "CFLDSP": ("rd=11:7 rs1=#2 imm=u[12]5[6:2]4:3|8:6", "frd,imm(rs1)", ""),
    "CFSWSP": ("rs2=6:2 rs1=#2 imm=u[12:7]5:2|7:6", "frs2,imm(rs1)", ""),
    "CFSDSP": ("rs2=6:2 rs1=#2 imm=u[12:7]5:3|8:6", "frs2,imm(rs1)", ""),
}
