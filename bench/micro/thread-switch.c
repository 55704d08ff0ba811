// Two threads hand a number to each other under a mutex with a condition variable: futex calls and switches of
// thread on one processor.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "bench.h"

enum { TURNS = 60000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static u32 turn;
static u64 value;

static void setup(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void *play(void *mine)
{
    u32 me = mine != NULL;
    pthread_mutex_lock(&lock);
    while (turn < TURNS) {
        while (turn < TURNS && turn % 2 != me) {
            pthread_cond_wait(&turned, &lock);
        }
        value = value * 3 + me + 1;
        turn++;
        pthread_cond_signal(&turned);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static u64 run(void)
{
    pthread_t other;
    turn = 0;
    value = 0;
    pthread_create(&other, NULL, play, &turn);
    play(NULL);
    pthread_join(other, NULL);
    return turn;
}
