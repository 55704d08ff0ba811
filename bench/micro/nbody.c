// Planets that attract each other: additions, multiplications, square roots and divisions of doubles.
#include <math.h>

#include "bench.h"

typedef struct {
    double x, y, z, vx, vy, vz, mass;
} Body;

enum { BODIES = 5 };
static Body bodies[BODIES];

static void setup(void)
{
    for (int i = 0; i < BODIES; i++) {
        bodies[i] = (Body){.x = i * 1.5, .y = (i * 7) % 5 - 2.25, .z = (i * 3) % 4 - 1.125,
                           .vx = 0.25 * (i - 2), .vy = 0.125 * (2 - i), .vz = 0.0625 * (i % 3),
                           .mass = i ? 0.01 * i : 40};
    }
}

static u64 run(void)
{
    const double dt = 0.001;
    for (int step = 0; step < 1200000; step++) {
        for (int i = 0; i < BODIES; i++) {
            Body *a = &bodies[i];
            for (int k = i + 1; k < BODIES; k++) {
                Body *b = &bodies[k];
                double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
                double squared = dx * dx + dy * dy + dz * dz + 0.01;
                double pull = dt / (squared * sqrt(squared));
                a->vx -= dx * b->mass * pull;
                a->vy -= dy * b->mass * pull;
                a->vz -= dz * b->mass * pull;
                b->vx += dx * a->mass * pull;
                b->vy += dy * a->mass * pull;
                b->vz += dz * a->mass * pull;
            }
        }
        for (int i = 0; i < BODIES; i++) {
            bodies[i].x += dt * bodies[i].vx;
            bodies[i].y += dt * bodies[i].vy;
            bodies[i].z += dt * bodies[i].vz;
        }
    }
    u64 sum = 0, bits;
    for (int i = 0; i < BODIES; i++) {
        memcpy(&bits, &bodies[i].x, sizeof bits);
        sum = sum * 31 + bits;
    }
    return sum;
}
