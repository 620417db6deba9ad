// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The steering program: VIP packets go to the fast path's AF_XDP sockets, the rest to the kernel.
 *
 * DPDK's af_xdp driver loads this object, attaches its first program, and puts its sockets into `xsks_map`;
 * so the object holds one program and that map name is fixed. While no socket holds a queue its VIP packets
 * are dropped: a kernel that saw them would answer clients with resets. The port has to open every queue that
 * the device has.
 */
#include <linux/bpf.h>

#include "dataplane/bpf/vip_match.h"

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, STEER_MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} xsks_map SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEER_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} steer_counters SEC(".maps");

static __always_inline void count(__u32 counter) {
    __u64* value = bpf_map_lookup_elem(&steer_counters, &counter);

    if (value) *value += 1;
}

/* xdp.frags: a driver with a jumbo MTU refuses a program that can't take packets of several buffers, and what
 * is the kernel's may be that large. All headers are in the first buffer, and only they are read. A VIP
 * packet of several buffers is dropped by the socket, which DPDK 22.11 opens for single buffers. */
SEC("xdp.frags")
int detour_steer(struct xdp_md* ctx) {
    const struct frame frame = {.data = (void*)(long)ctx->data, .end = (void*)(long)ctx->data_end};
    int action;

    if (!is_for_vip(&frame)) return XDP_PASS;
    action = (int)bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
    count(action == XDP_REDIRECT ? STEER_TAKEN : STEER_NO_SOCKET);
    return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
