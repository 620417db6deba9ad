// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The guard: drops VIP packets at clsact ingress, so that the kernel never answers a client.
 *
 * It only sees what no steering program took: between the detach of a stale one and the first VIPs in the
 * maps of the next. It stays for as long as the host is an edge host.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "dataplane/bpf/vip_match.h"

/* Bytes that are made linear: two VLAN tags, IPv6 and a few extension headers. More of these, and the packet
 * counts as one that can't be read. */
#define GUARD_HEADER_BYTES 256

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} guard_dropped SEC(".maps");

/* ICMP and fragments of a VIP's address that the fast path found to be the kernel's. */
static __always_inline bool is_handed_back(const struct __sk_buff* skb) {
    const __u32* mark = (void*)(long)skb->data_meta;

    return (void*)(mark + 1) <= (void*)(long)skb->data && *mark == STEER_HANDED_BACK;
}

SEC("tc")
int detour_guard(struct __sk_buff* skb) {
    const __u32 wanted = skb->len < GUARD_HEADER_BYTES ? skb->len : GUARD_HEADER_BYTES;
    const __u32 key = 0;
    struct frame frame;
    __u64* dropped;

    if (is_handed_back(skb)) return TC_ACT_UNSPEC;
    /* A failure only means that the headers look cut off. */
    if ((void*)(long)skb->data + wanted > (void*)(long)skb->data_end) bpf_skb_pull_data(skb, wanted);
    frame.data = (void*)(long)skb->data;
    frame.end = (void*)(long)skb->data_end;
    if (!is_for_vip(&frame)) return TC_ACT_UNSPEC;
    dropped = bpf_map_lookup_elem(&guard_dropped, &key);
    if (dropped) *dropped += 1;
    return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
