/* Figures that C and assembly share. */
#ifndef LIMITS_H
#define LIMITS_H

#define MAX_HARTS 8
#define STACK_SHIFT 15 /* each hart's stack: 32 KiB */

#endif
