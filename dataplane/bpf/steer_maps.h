/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the steering program, the guard and their loader share: map keys and counters.
 *
 * Plain C, so that the layout is written once. The loader writes `vips` and `vip_addresses`, the programs
 * only read them. Each attached program has maps of its own.
 */
#pragma once

#include <linux/types.h>

#define STEER_FAMILY_V4 4
#define STEER_FAMILY_V6 6

/* Twice the VIPs of a plan: a new set is added before the old one is removed. */
#define STEER_MAX_VIPS 32768

#define STEER_MAX_QUEUES 256

/* What the injector (injector.h) puts before a frame that the fast path hands back, as XDP metadata: the
 * guard lets such a frame pass. Nothing on the wire can carry it. */
#define STEER_HANDED_BACK 0x64744b31u

/* An address of either family, as on the wire; IPv4 uses the first 4 bytes, the rest is zero. */
struct steer_address {
    __u8 family;
    __u8 bytes[16];
};

/* Key of `vips`. No padding: every byte of a key counts. */
struct steer_vip {
    struct steer_address address;
    __u8 protocol;
    __be16 port;
};

/* Order of the map `steer_counters`, per CPU. */
enum steer_counter {
    STEER_TAKEN,     /* sent to an AF_XDP socket */
    STEER_NO_SOCKET, /* dropped: no socket holds the queue */
    STEER_COUNTERS,
};
