/* Tokens of the arbiter that several processes share: System V semaphores. */
#ifndef ORT_RKNN_SHARED_TOKENS_H
#define ORT_RKNN_SHARED_TOKENS_H

#include <stdint.h>

/* Numbers of the set: free tokens, those that wait by class, gates open by kind, cores reserved. */
enum { SHARED_FREE, SHARED_WAITING, SHARED_HIGH = SHARED_WAITING + 3, SHARED_LOWER, SHARED_RESERVED, SHARED_COUNT };

int shared_open(int key, uint32_t cores); /* the set, or -1 */
void shared_add(int set, int number, int more); /* undone when this process ends */
/* 0 when the tokens were taken. left: tokens that must stay; aged: classes risen by; timeout: nanoseconds. */
int shared_take(int set, int class, int weight, int left, int aged, int64_t timeout);
void shared_wait_begins(int set, int class);
void shared_wait_ends(int set, int class);
void shared_give_back(int set, int weight);
int shared_look(int set, unsigned short values[SHARED_COUNT]);

#endif
