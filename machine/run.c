/*
 * Runs the harts: one thread each or all on one, a signal to interrupt it wherever it is, host
 * timers for its deadlines.
 *
 * A hart's thread is in one of three places (CpuPlace): in the translator and generated code, in
 * other C code, or asleep because of WFI. Whoever wants its attention sets bits in cpu->pending and
 * then kicks, as the place demands. In generated code it takes a signal, whose handler, on the
 * hart's own thread, makes the budget negative, so that the next block leaves. Sleep is a futex wait
 * on `pending` itself: a bit that was set before the wait makes it return at once, a later one comes
 * with a wake. Other C code looks at `pending` anyway, after it has changed its place. So no order
 * of events loses a wake-up.
 *
 * The host timers signal the hart's thread directly (SIGEV_THREAD_ID); the handler posts
 * PENDING_TIMER itself.
 *
 * Harts that take turns on one thread run for a slice of instructions each; one that has halted is
 * passed over, and when all have, the thread sleeps.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/error.h"
#include "machine/internal.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { NS_PER_S = 1000000000 };
enum { SLICE = 20000 }; /* instructions in a turn */
enum { WAIT_SLICE = 60000, NAP_NS = 50000 }; /* how long a hart waits for another one, and naps */

/* Kicks merge while one is pending: a hart that another one kicks in a loop must not fill the
 * user's queue of signals, which real-time signals do; and the host can always deliver one. Timers
 * have a signal of their own, so that none of them is lost in a kick. */
#define KICK_SIGNAL SIGURG
#define TIMER_SIGNAL SIGRTMIN

/* The hart that this thread runs. */
static __thread CpuState *current;

static void on_kick(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (info->si_code == SI_TIMER) {
        CpuState *cpu = info->si_value.sival_ptr;
        atomic_fetch_or(&cpu->pending, PENDING_TIMER);
        atomic_fetch_add(&((Machine *)cpu->machine)->wakeups, 1);
    }
    if (current) {
        cpu_stop_budget(current);
    }
}

void run_init(void)
{
    struct sigaction action = {.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    /* Faults of generated code are handled even then. */
    sigdelset(&action.sa_mask, SIGSEGV);
    sigdelset(&action.sa_mask, SIGBUS);
    sigaction(KICK_SIGNAL, &action, NULL);
    sigaction(TIMER_SIGNAL, &action, NULL);
}

void hart_kick(CpuState *cpu)
{
    Machine *m = cpu->machine;
    if (cpu == current) {
        cpu_stop_budget(cpu);
        return;
    }
    const CpuPlace place = atomic_load(&cpu->place);
    if (place == CPU_ASLEEP) {
        _Atomic u32 *word = m->options->one_thread ? &m->wakeups : &cpu->pending;
        if (m->options->one_thread) {
            atomic_fetch_add(word, 1);
        }
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    } else if (place == CPU_INSIDE) {
        const pid_t tid = atomic_load(&m->harts[cpu->index].tid);
        if (tid) {
            syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
        }
    }
}

/* The hart waits for somebody, perhaps for a hart that waits for this turn to end, or for this CPU of
 * the host. A wait is short if that one runs; if it goes on, the CPU is free for a moment. (Yielding
 * would cost a whole slice of the scheduler's time wherever other programs run.) */
void hart_relax(void *opaque, CpuState *cpu)
{
    enum { SHORT_WAIT = 400, SAME_WAIT_INSNS = 256 };
    Machine *m = opaque;
    MachineHart *h = &m->harts[cpu->index];
    const u64 now = cpu_insns(cpu);
    h->relaxes = now - h->relaxed_at > SAME_WAIT_INSNS ? 0 : h->relaxes + 1;
    h->relaxed_at = now;
    if (m->options->one_thread) {
        cpu_stop_budget(cpu);
    } else if (h->relaxes > SHORT_WAIT && !atomic_load(&cpu->pending)) {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    } else {
        __builtin_ia32_pause();
    }
}

/* Firmware that a supervisor has asked to have others do something waits in M mode until they have:
 * for OpenSBI's remote fences, in a loop that serves requests from others meanwhile and looks like
 * any code. So it is asked every now and then whether it is still there. */
void hart_sent_ipi(Machine *m)
{
    if (current && m->hart_count > 1 && !m->options->one_thread) {
        const Hart *hart = m->harts[current->index].hart;
        if (hart->priv == PRIV_M && mstatus_field(hart, MSTATUS_MPP, 2) == PRIV_S) {
            atomic_fetch_or(&current->pending, PENDING_SENT);
            cpu_stop_budget(current);
        }
    }
}

/* ---- Time ----------------------------------------------------------------------------------- */

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * NS_PER_S + (u64)now.tv_nsec;
}

u64 machine_time(Machine *machine)
{
    return (now_ns() - machine->start_ns) / machine->tick_ns +
           (u64)atomic_load(&machine->time_offset);
}

/* Sets the host timer to its deadline; the lock is held. A deadline that has passed fires at once.
 */
static void set_timer(MachineHart *h, unsigned timer)
{
    const Machine *m = h->machine;
    u64 deadline = h->deadlines[timer];
    s128 ns =
        ((s128)deadline - atomic_load(&m->time_offset)) * (s128)m->tick_ns + (s128)m->start_ns;
    struct itimerspec when = {0};
    if (deadline != ~(u64)0 && ns <= G_MAXINT64) {
        ns = MAX(ns, 1); /* 0 would switch the timer off */
        when.it_value = (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    }
    if (h->timers_exist) {
        timer_settime(h->timers[timer], TIMER_ABSTIME, &when, NULL);
    }
}

void hart_arm_timer(MachineHart *h, unsigned timer, u64 deadline)
{
    g_mutex_lock(&h->timer_lock);
    h->deadlines[timer] = deadline;
    set_timer(h, timer);
    g_mutex_unlock(&h->timer_lock);
}

void hart_set_timecmp(MachineHart *h, u64 ticks)
{
    g_mutex_lock(&h->timer_lock);
    h->deadlines[TIMER_M] = ticks;
    set_timer(h, TIMER_M);
    cpu_set_irq(h->cpu, IRQ_MTI, machine_time(h->machine) >= ticks);
    g_mutex_unlock(&h->timer_lock);
}

/* A timer fired: mtimecmp's interrupt line follows. stimecmp is the frontend's business. */
static void timer_fired(MachineHart *h)
{
    g_mutex_lock(&h->timer_lock);
    if (machine_time(h->machine) >= h->deadlines[TIMER_M]) {
        cpu_set_irq(h->cpu, IRQ_MTI, true);
    }
    g_mutex_unlock(&h->timer_lock);
}

void machine_set_time(Machine *m, u64 ticks)
{
    atomic_store(&m->time_offset, (s64)(ticks - (now_ns() - m->start_ns) / m->tick_ns));
    for (unsigned i = 0; i < m->hart_count; i++) {
        MachineHart *h = &m->harts[i];
        hart_set_timecmp(h, h->deadlines[TIMER_M]);
        g_mutex_lock(&h->timer_lock); /* the hart itself may be setting another deadline */
        set_timer(h, TIMER_S);
        g_mutex_unlock(&h->timer_lock);
        cpu_post(h->cpu, PENDING_TIMER);
    }
}

static bool make_timers(MachineHart *h, GError **err)
{
    for (unsigned i = 0; i < TIMER_COUNT; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TIMER_SIGNAL};
        event.sigev_notify_thread_id = gettid();
        event.sigev_value.sival_ptr = h->cpu;
        if (timer_create(CLOCK_MONOTONIC, &event, &h->timers[i]) != 0) {
            while (i-- > 0) {
                timer_delete(h->timers[i]);
            }
            return stag_error(err, "the host gives no timer for hart %u: %s", h->cpu->index,
                              g_strerror(errno));
        }
    }
    g_mutex_lock(&h->timer_lock);
    h->timers_exist = true;
    for (unsigned i = 0; i < TIMER_COUNT; i++) {
        set_timer(h, i);
    }
    g_mutex_unlock(&h->timer_lock);
    return true;
}

static void delete_timers(MachineHart *h)
{
    g_mutex_lock(&h->timer_lock);
    for (unsigned i = 0; h->timers_exist && i < TIMER_COUNT; i++) {
        timer_delete(h->timers[i]);
    }
    h->timers_exist = false;
    g_mutex_unlock(&h->timer_lock);
}

/* ---- Threads of harts ----------------------------------------------------------------------- */

/* Where a hart's thread stays while somebody wants the harts to pause. */
static void wait_in_pause(Machine *m)
{
    g_mutex_lock(&m->request_lock);
    m->paused_threads++;
    g_cond_broadcast(&m->threads_changed);
    while (m->paused && m->request == REQUEST_NONE) {
        g_cond_wait(&m->threads_changed, &m->request_lock);
    }
    m->paused_threads--;
    g_mutex_unlock(&m->request_lock);
}

void machine_pause_harts(Machine *m)
{
    g_mutex_lock(&m->request_lock);
    m->paused = true;
    g_mutex_unlock(&m->request_lock);
    for (unsigned i = 0; i < m->hart_count; i++) {
        cpu_post(m->harts[i].cpu, PENDING_PAUSE);
    }
    g_mutex_lock(&m->request_lock);
    while (m->paused_threads < m->threads) {
        g_cond_wait(&m->threads_changed, &m->request_lock);
    }
    g_mutex_unlock(&m->request_lock);
}

void machine_resume_harts(Machine *m)
{
    g_mutex_lock(&m->request_lock);
    m->paused = false;
    g_cond_broadcast(&m->threads_changed);
    g_mutex_unlock(&m->request_lock);
}

/* Sleeps until something is pending that take_turn sees to, or `ns` have passed if that is not 0. */
static void sleep_until_pending(CpuState *cpu, long ns)
{
    const struct timespec at_most = {.tv_nsec = ns};
    atomic_store(&cpu->place, CPU_ASLEEP);
    const u32 pending = atomic_load(&cpu->pending);
    if (!(pending & ~(u32)PENDING_FLUSH)) {
        syscall(SYS_futex, &cpu->pending, FUTEX_WAIT_PRIVATE, pending, ns ? &at_most : NULL, NULL, 0);
    }
    atomic_store(&cpu->place, CPU_OUTSIDE);
}

/* Lets the hart run, for `slice` instructions if that is not 0. False: it has halted and nothing
 * has woken it. */
static bool take_turn(MachineHart *h, u64 slice)
{
    CpuState *cpu = h->cpu;
    Exec *exec = h->machine->exec;
    const u32 see_to = PENDING_INTERRUPT | PENDING_TIMER | PENDING_PAUSE | PENDING_SENT;
    const u32 seen = atomic_fetch_and(&cpu->pending, ~see_to);
    if (seen & PENDING_PAUSE) {
        wait_in_pause(h->machine);
    }
    if (seen & PENDING_TIMER) {
        timer_fired(h);
    }
    h->waits |= seen & PENDING_SENT;
    const bool took = riscv_take_interrupt(cpu);
    if (h->halted && !took && !riscv_wfi_wakes(cpu)) {
        return false;
    }
    if (h->waits) {
        slice = WAIT_SLICE;
    }
    const CpuExit exit = slice ? exec_run_slice(exec, cpu, slice) : exec_run(exec, cpu, 0);
    h->halted = exit == EXIT_HALT;
    if (h->waits && (h->halted || h->hart->priv != PRIV_M)) {
        h->waits = false;
    } else if (h->waits) {
        sleep_until_pending(cpu, NAP_NS);
    }
    return true;
}

static bool stopped(const MachineHart *h)
{
    return atomic_load(&h->cpu->pending) & PENDING_STOP;
}

/* Whether something is pending that take_turn sees to. */
static bool has_work(const CpuState *cpu)
{
    return atomic_load(&cpu->pending) & ~(u32)PENDING_FLUSH;
}

/* Sleeps until a hart has something pending. */
static void sleep_until_any_pending(Machine *m)
{
    const u32 wakeups = atomic_load(&m->wakeups);
    bool work = false;
    for (unsigned i = 0; i < m->hart_count; i++) {
        atomic_store(&m->cpus[i]->place, CPU_ASLEEP);
        work |= has_work(m->cpus[i]);
    }
    if (!work) {
        syscall(SYS_futex, &m->wakeups, FUTEX_WAIT_PRIVATE, wakeups, NULL, NULL, 0);
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        atomic_store(&m->cpus[i]->place, CPU_OUTSIDE);
    }
}

/* The signals that end the process are the main thread's business. */
static void block_signals(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
}

static void begin(MachineHart *h)
{
    GError *error = NULL;
    h->halted = h->waits = false;
    h->relaxes = 0;
    atomic_store(&h->tid, gettid());
    if (!make_timers(h, &error)) {
        machine_fail(h->machine, error);
    }
}

static void end(MachineHart *h)
{
    delete_timers(h);
    atomic_store(&h->tid, 0);
}

static void thread_ends(Machine *m)
{
    g_mutex_lock(&m->request_lock);
    m->threads--;
    g_cond_broadcast(&m->threads_changed);
    g_mutex_unlock(&m->request_lock);
}

static void *hart_thread(void *opaque)
{
    MachineHart *h = opaque;
    block_signals();
    current = h->cpu;
    begin(h);
    wait_in_pause(h->machine);
    while (!stopped(h)) {
        if (!take_turn(h, 0)) {
            sleep_until_pending(h->cpu, 0);
        }
    }
    end(h);
    current = NULL;
    thread_ends(h->machine);
    return NULL;
}

static void *turns_thread(void *opaque)
{
    Machine *m = opaque;
    block_signals();
    for (unsigned i = 0; i < m->hart_count; i++) {
        begin(&m->harts[i]);
    }
    wait_in_pause(m);
    while (!stopped(&m->harts[0])) {
        bool ran = false;
        for (unsigned i = 0; i < m->hart_count && !stopped(&m->harts[i]); i++) {
            current = m->harts[i].cpu;
            ran |= take_turn(&m->harts[i], SLICE);
        }
        current = NULL;
        if (!ran) {
            sleep_until_any_pending(m);
        }
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        end(&m->harts[i]);
    }
    thread_ends(m);
    return NULL;
}

void hart_init(MachineHart *h, Machine *machine, unsigned index)
{
    h->machine = machine;
    h->hart = riscv_hart_new(machine->model, index, &machine->callbacks, machine);
    h->cpu = &h->hart->cpu;
    h->cpu->kick = hart_kick;
    h->deadlines[TIMER_M] = h->deadlines[TIMER_S] = ~(u64)0;
    g_mutex_init(&h->timer_lock);
}

void hart_clear(MachineHart *h)
{
    riscv_hart_free(h->hart);
    g_mutex_clear(&h->timer_lock);
}

/* ---- All of them ---------------------------------------------------------------------------- */

void machine_request(Machine *m, MachineRequest request, int status)
{
    g_mutex_lock(&m->request_lock);
    if (request > m->request) {
        m->request = request;
        m->status = status;
    }
    g_cond_broadcast(&m->threads_changed);
    g_mutex_unlock(&m->request_lock);
    for (unsigned i = 0; i < m->hart_count; i++) {
        cpu_post(m->harts[i].cpu, PENDING_STOP);
    }
    g_main_context_wakeup(NULL);
}

void machine_fail(Machine *m, GError *error)
{
    g_mutex_lock(&m->request_lock);
    if (!m->error) {
        m->error = error;
    } else {
        g_error_free(error);
    }
    g_mutex_unlock(&m->request_lock);
    machine_request(m, REQUEST_QUIT, 1);
}

static MachineRequest current_request(Machine *m)
{
    g_mutex_lock(&m->request_lock);
    MachineRequest request = m->request;
    g_mutex_unlock(&m->request_lock);
    return request;
}

void machine_run_harts(Machine *m)
{
    const unsigned threads = m->options->one_thread ? 1 : m->hart_count;
    g_mutex_lock(&m->request_lock);
    m->threads = threads;
    m->paused = m->holds > 0;
    g_mutex_unlock(&m->request_lock);
    for (unsigned i = 0; i < threads; i++) {
        g_autofree char *name = g_strdup_printf(threads < m->hart_count ? "harts" : "hart %u", i);
        m->harts[i].thread = m->options->one_thread ? g_thread_new(name, turns_thread, m)
                                                    : g_thread_new(name, hart_thread, &m->harts[i]);
    }
    while (current_request(m) == REQUEST_NONE) {
        g_main_context_iteration(NULL, TRUE);
    }
    for (unsigned i = 0; i < threads; i++) {
        g_thread_join(m->harts[i].thread);
        m->harts[i].thread = NULL;
    }
}
