#include "shared_tokens.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static int fill(int set, uint32_t cores) {
    unsigned short values[SHARED_COUNT] = {(unsigned short)(2 * cores)};
    union semun all = {.array = values};
    struct sembuf marks[2] = {{SHARED_RESERVED, 1, 0}, {SHARED_RESERVED, -1, 0}};
    if (semctl(set, 0, SETALL, all)) return -1;
    return semop(set, marks, 2); /* from now on sem_otime is not 0: others see that it is filled */
}

int shared_open(int key, uint32_t cores) {
    enum { STEPS = 100 };
    static const struct timespec step = {0, 2000000};
    int set = semget(key, SHARED_COUNT, IPC_CREAT | IPC_EXCL | 0666);
    if (set >= 0) return fill(set, cores) ? -1 : set;
    if (errno != EEXIST || (set = semget(key, SHARED_COUNT, 0)) < 0) return -1;
    for (int i = 0; i < STEPS; i++) {
        struct semid_ds state;
        union semun about = {.buf = &state};
        if (semctl(set, 0, IPC_STAT, about)) return -1;
        if (state.sem_otime) return set;
        nanosleep(&step, NULL);
    }
    return fill(set, cores) ? -1 : set; /* whoever made it died before it was filled */
}

void shared_add(int set, int number, int more) {
    struct sembuf op = {(unsigned short)number, (short)more, SEM_UNDO | IPC_NOWAIT};
    if (more) semop(set, &op, 1);
}

int shared_take(int set, int class, int weight, int left, int aged, int64_t timeout) {
    struct sembuf ops[6];
    unsigned n = 0;
    for (int higher = 0; higher < class - aged; higher++) ops[n++] = (struct sembuf){(unsigned short)(SHARED_WAITING + higher), 0, 0};
    ops[n++] = (struct sembuf){SHARED_FREE, (short)-(weight + left), SEM_UNDO};
    if (left) ops[n++] = (struct sembuf){SHARED_FREE, (short)left, SEM_UNDO};
    for (unsigned i = 0; !timeout && i < n; i++) ops[i].sem_flg |= IPC_NOWAIT;
    struct timespec t = {timeout / 1000000000, timeout % 1000000000};
    return timeout ? semtimedop(set, ops, n, &t) : semop(set, ops, n);
}

void shared_wait_begins(int set, int class) { shared_add(set, SHARED_WAITING + class, 1); }
void shared_wait_ends(int set, int class) { shared_add(set, SHARED_WAITING + class, -1); }
void shared_give_back(int set, int weight) { shared_add(set, SHARED_FREE, weight); }

int shared_look(int set, unsigned short values[SHARED_COUNT]) {
    union semun all = {.array = values};
    return semctl(set, 0, GETALL, all);
}
