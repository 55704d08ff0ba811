/*
 * Fuzz targets: each is one function that takes any bytes and must neither crash, hang, leak nor
 * trip a sanitizer. The function has libFuzzer's name and type, so a target can be built with
 * clang's -fsanitize=fuzzer (without fuzz_main.c). The test suite builds it with fuzz_main.c
 * instead, which feeds it mutations of the target's own samples, the same ones in every run with
 * the same seed.
 */
#ifndef STAG_TESTS_FUZZ_FUZZ_H
#define STAG_TESTS_FUZZ_FUZZ_H

#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sound inputs to start from: adds GBytes to `samples`. */
void fuzz_samples(GPtrArray *samples);

#endif
