/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Is this frame for a VIP? One answer for the steering program and for the guard behind it.
 *
 * Ours, when the destination is a VIP's address:
 * - whole TCP and UDP packets to a VIP's port;
 * - every fragment: only the first shows its port, so the fast path has to look at all;
 * - ICMP and ICMPv6, except neighbour discovery (types 133 to 137), which the kernel answers for the link;
 * - whatever can't be read that far (cut off, lengths that can't be, more extension headers than the bound):
 * the fast path counts it under its reason, and a kernel that reads further than we do never answers it.
 * Anything else is the kernel's. Up to two VLAN tags are looked through.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dataplane/bpf/steer_maps.h"

#define STEER_VLAN_TAGS 2
#define STEER_EXTENSIONS 8
#define STEER_TAG_BYTES 4
#define STEER_PORT_BYTES 4
#define STEER_ND_FIRST 133
#define STEER_ND_LAST 137

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_MAX_VIPS);
    __type(key, struct steer_vip);
    __type(value, __u8);
} vips SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_MAX_VIPS);
    __type(key, struct steer_address);
    __type(value, __u8);
} vip_addresses SEC(".maps");

struct frame {
    void* data;
    void* end;
};

/* NULL when `size` bytes at `offset` are not all there. */
static __always_inline void* bytes_at(const struct frame* frame, __u32 offset, __u32 size) {
    void* start = frame->data + (offset & 0x3ff);
    return offset > 0x3ff || start + size > frame->end ? NULL : start;
}

static __always_inline bool is_vip_address(const struct steer_vip* key) {
    return bpf_map_lookup_elem(&vip_addresses, &key->address) != NULL;
}

/* Judges by the transport header at `offset`; the address is a VIP's. */
static __always_inline bool is_vip(const struct frame* frame, __u32 offset, struct steer_vip* key) {
    __be16* ports;

    switch (key->protocol) {
        case IPPROTO_ICMP:
            return key->address.family == STEER_FAMILY_V4;
        case IPPROTO_ICMPV6: {
            __u8* type = bytes_at(frame, offset, 1);

            if (key->address.family != STEER_FAMILY_V6) return false;
            return !type || *type < STEER_ND_FIRST || *type > STEER_ND_LAST;
        }
        case IPPROTO_TCP:
        case IPPROTO_UDP:
            ports = bytes_at(frame, offset, STEER_PORT_BYTES);
            if (!ports) return true;
            key->port = ports[1];
            return bpf_map_lookup_elem(&vips, key) != NULL;
        default:
            return false;
    }
}

static __always_inline bool match_v4(const struct frame* frame, __u32 offset, struct steer_vip* key) {
    struct iphdr* ip = bytes_at(frame, offset, sizeof(*ip));

    if (!ip || ip->version != 4) return false;
    key->address.family = STEER_FAMILY_V4;
    __builtin_memcpy(key->address.bytes, &ip->daddr, sizeof(ip->daddr));
    if (!is_vip_address(key)) return false;
    if (ip->ihl < 5) return true;
    if (ip->frag_off & bpf_htons(0x3fff)) return true;
    key->protocol = ip->protocol;
    return is_vip(frame, offset + ip->ihl * 4U, key);
}

enum step { STEP_ON, STEP_DONE, STEP_OURS };

/* Steps over one extension header. */
static __always_inline enum step step_extension(const struct frame* frame, __u32* offset, __u8* protocol) {
    __u8* extension;

    switch (*protocol) {
        case IPPROTO_FRAGMENT:
            return STEP_OURS;
        case IPPROTO_HOPOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_DSTOPTS:
        case IPPROTO_AH:
            break;
        default:
            return STEP_DONE;
    }
    extension = bytes_at(frame, *offset, 2);
    if (!extension) return STEP_OURS;
    /* RFC 4302: the length of AH counts 4-byte words less 2, the others' 8-byte words less 1. */
    *offset += *protocol == IPPROTO_AH ? (extension[1] + 2U) * 4U : (extension[1] + 1U) * 8U;
    *protocol = extension[0];
    return STEP_ON;
}

static __always_inline bool match_v6(const struct frame* frame, __u32 offset, struct steer_vip* key) {
    struct ipv6hdr* ip = bytes_at(frame, offset, sizeof(*ip));
    enum step step = STEP_ON;

    if (!ip || ip->version != 6) return false;
    key->address.family = STEER_FAMILY_V6;
    __builtin_memcpy(key->address.bytes, &ip->daddr, sizeof(ip->daddr));
    if (!is_vip_address(key)) return false;
    key->protocol = ip->nexthdr;
    offset += sizeof(*ip);
    for (int i = 0; i <= STEER_EXTENSIONS && step == STEP_ON; i++) {
        step = step_extension(frame, &offset, &key->protocol);
    }
    return step != STEP_DONE || is_vip(frame, offset, key);
}

static __always_inline bool is_for_vip(const struct frame* frame) {
    struct ethhdr* eth = bytes_at(frame, 0, sizeof(*eth));
    __u32 offset = sizeof(*eth);
    struct steer_vip key = {};
    __be16 type;

    if (!eth) return false;
    type = eth->h_proto;
    for (int i = 0; i < STEER_VLAN_TAGS; i++) {
        __be16* tag;

        if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
        tag = bytes_at(frame, offset, STEER_TAG_BYTES);
        if (!tag) return false;
        type = tag[1];
        offset += STEER_TAG_BYTES;
    }
    if (type == bpf_htons(ETH_P_IP)) return match_v4(frame, offset, &key);
    if (type == bpf_htons(ETH_P_IPV6)) return match_v6(frame, offset, &key);
    return false;
}
