// Two threads hand a number to each other under a mutex with a condition variable: futex calls and switches of
// thread on one processor.
#include <pthread.h>

#include "bench.h"

enum { TURNS = 60000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static u32 turn;
static u64 value;

static void setup(void)
{
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
