// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* detour-decap in the kernel: takes the tunnel off client packets and clamps the MSS of the answers.
 *
 * detour_decap_x (XDP) and detour_decap_t (clsact ingress) do the same; the loader attaches one of them.
 * detour_clamp (clsact egress) lowers the MSS option of SYN-ACKs that leave a VIP, because what the client
 * then sends comes here inside a tunnel. Only outer packets to an address of this host are looked at; the
 * rest passes untouched.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tools/decap/decap_maps.h"
#include "tools/decap/decap_packet.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_BYTES 4
#define TCP_OPTION_BYTES 40

/* Set by the loader before the object is loaded. */
const volatile __be16 gue_port = bpf_htons(6080);
const volatile __u16 mss_v4 = 1412;
const volatile __u16 mss_v6 = 1392;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, DECAP_MAX_ADDRESSES);
    __type(key, struct decap_address);
    __type(value, __u8);
} decap_vips SEC(".maps");

/* Addresses of this host that a tunnel may end at. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, DECAP_MAX_ADDRESSES);
    __type(key, struct decap_address);
    __type(value, __u8);
} decap_locals SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, DECAP_MAX_ADDRESSES);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct decap_prefix);
    __type(value, __u8);
} decap_sources SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, DECAP_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} decap_counters SEC(".maps");

static __always_inline void count(__u32 counter) {
    __u64* value = bpf_map_lookup_elem(&decap_counters, &counter);

    if (value) *value += 1;
}

static __always_inline bool is_source(const struct decap_address* address) {
    struct decap_prefix key = {.prefix_bits = 8 + 128, .address = *address};

    /* A v4 key has its host bits in the first 4 bytes; longer prefixes of that family are never stored. */
    return bpf_map_lookup_elem(&decap_sources, &key) != NULL;
}

/* Judges one frame. Returns its counter; DECAP_IPIP, DECAP_GUE and DECAP_GRE mean `tunnel` may be taken off.
 */
static __always_inline int judge(const struct frame* frame, __u32 wire_bytes, struct tunnel* tunnel) {
    struct decap_address source = {}, destination = {}, inner = {};
    __be16 type = 0;
    int wrong;

    tunnel->ip_offset = read_ethernet(frame, &type);
    if (!tunnel->ip_offset) return DECAP_PASSED;
    wrong = type == bpf_htons(ETH_P_IP) ? read_outer_v4(frame, tunnel, &source, &destination)
                                        : read_outer_v6(frame, tunnel, &source, &destination);
    /* DECAP_PASSED is 0: what is too broken to be judged falls through to is_tunnel and passes. */
    if (!tunnel->outer_family) return DECAP_PASSED;
    if (!is_tunnel(frame, tunnel, gue_port)) return DECAP_PASSED;
    if (!bpf_map_lookup_elem(&decap_locals, &destination)) return DECAP_PASSED;
    if (!is_source(&source)) return DECAP_NOT_A_SOURCE;
    if (wrong) return wrong;
    if (tunnel->ip_end > wire_bytes) return DECAP_OUTER_MALFORMED;
    if (tunnel->is_fragment) return DECAP_OUTER_FRAGMENT;
    wrong = read_tunnel_header(frame, tunnel);
    if (wrong) return wrong;
    if (tunnel->inner_offset - tunnel->ip_offset > DECAP_MAX_OUTER_BYTES) return DECAP_OUTER_TOO_LONG;
    wrong = read_inner(frame, tunnel, &inner);
    if (wrong) return wrong;
    if (!bpf_map_lookup_elem(&decap_vips, &inner)) return DECAP_NOT_A_VIP;
    wrong = carry_ecn(frame, tunnel);
    return wrong ? wrong : tunnel->counter;
}

static __always_inline bool is_taken(int counter) {
    return counter == DECAP_IPIP || counter == DECAP_GUE || counter == DECAP_GRE;
}

static __always_inline __be16 inner_type(const struct tunnel* tunnel) {
    return tunnel->inner_family == DECAP_FAMILY_V4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

struct link_header {
    struct ethhdr eth;
    __be16 tags[2 * DECAP_VLAN_TAGS];
};

static __always_inline bool save_link_header(const struct frame* frame, __u32 size,
                                             struct link_header* saved) {
    struct ethhdr* eth = bytes_at(frame, 0, sizeof(*eth));

    if (!eth) return false;
    saved->eth = *eth;
    for (__u32 i = 0; i < DECAP_VLAN_TAGS; i++) {
        __be16* tag;

        if (size < sizeof(*eth) + (i + 1) * ETH_TAG_BYTES) break;
        tag = bytes_at(frame, sizeof(*eth) + i * ETH_TAG_BYTES, ETH_TAG_BYTES);
        if (!tag) return false;
        saved->tags[2 * i] = tag[0];
        saved->tags[2 * i + 1] = tag[1];
    }
    return true;
}

/* Writes the link header with `type` in its last type field. */
static __always_inline bool restore_link_header(const struct frame* frame, __u32 size,
                                                const struct link_header* saved, __be16 type) {
    struct ethhdr* eth = bytes_at(frame, 0, sizeof(*eth));

    if (!eth) return false;
    *eth = saved->eth;
    if (size == sizeof(*eth)) eth->h_proto = type;
    for (__u32 i = 0; i < DECAP_VLAN_TAGS; i++) {
        __be16* tag;

        if (size < sizeof(*eth) + (i + 1) * ETH_TAG_BYTES) break;
        tag = bytes_at(frame, sizeof(*eth) + i * ETH_TAG_BYTES, ETH_TAG_BYTES);
        if (!tag) return false;
        tag[0] = saved->tags[2 * i];
        tag[1] = size == sizeof(*eth) + (i + 1) * ETH_TAG_BYTES ? type : saved->tags[2 * i + 1];
    }
    return true;
}

/* xdp.frags: with a jumbo MTU drivers refuse a program that can't take packets of several buffers. All
 * headers are in the first buffer, and only they are read. */
SEC("xdp.frags")
int detour_decap_x(struct xdp_md* ctx) {
    struct frame frame = {.data = (void*)(long)ctx->data, .end = (void*)(long)ctx->data_end};
    struct link_header saved = {};
    struct tunnel tunnel = {};
    int counter = judge(&frame, (__u32)bpf_xdp_get_buff_len(ctx), &tunnel);

    if (!is_taken(counter)) {
        count(counter);
        return counter == DECAP_PASSED ? XDP_PASS : XDP_DROP;
    }
    if (!save_link_header(&frame, tunnel.ip_offset, &saved)) goto failed;
    if (bpf_xdp_adjust_head(ctx, (int)(tunnel.inner_offset - tunnel.ip_offset))) goto failed;
    frame.data = (void*)(long)ctx->data;
    frame.end = (void*)(long)ctx->data_end;
    if (!restore_link_header(&frame, tunnel.ip_offset, &saved, inner_type(&tunnel))) goto failed;
    count(counter);
    return XDP_PASS;
failed:
    count(DECAP_FAILED);
    return XDP_DROP;
}

/* Takes [ip_offset, inner_offset) out of the packet and makes it one of the inner family. change_proto comes
 * first: it is what sets skb->protocol, and adjust_room refuses to leave less than a header of that family.
 */
static __always_inline bool strip(struct __sk_buff* skb, const struct tunnel* tunnel) {
    __s32 remove = (__s32)(tunnel->inner_offset - tunnel->ip_offset);
    __be16 type = inner_type(tunnel);

    if (tunnel->outer_family != tunnel->inner_family) {
        const __s32 growth = (__s32)sizeof(struct ipv6hdr) - (__s32)sizeof(struct iphdr);

        if (bpf_skb_change_proto(skb, type, 0)) return false;
        remove += tunnel->inner_family == DECAP_FAMILY_V6 ? growth : -growth;
    }
    if (bpf_skb_adjust_room(skb, -remove, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO)) return false;
    return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type), 0) == 0;
}

/* Most that the headers of a packet we take can be long, and what must be in the skb's linear part. */
#define HEADER_BYTES (ETH_HLEN + 2 * ETH_TAG_BYTES + DECAP_MAX_OUTER_BYTES + 60)

static __always_inline void make_linear(struct __sk_buff* skb) {
    __u32 wanted = skb->len < HEADER_BYTES ? skb->len : HEADER_BYTES;

    /* A failure only means that the headers look truncated. */
    if ((void*)(long)skb->data + wanted > (void*)(long)skb->data_end) bpf_skb_pull_data(skb, wanted);
}

SEC("tc")
int detour_decap_t(struct __sk_buff* skb) {
    struct tunnel tunnel = {};
    struct frame frame;
    int counter;

    make_linear(skb);
    frame.data = (void*)(long)skb->data;
    frame.end = (void*)(long)skb->data_end;
    counter = judge(&frame, skb->len, &tunnel);
    if (is_taken(counter) && !strip(skb, &tunnel)) counter = DECAP_FAILED;
    count(counter);
    return counter == DECAP_PASSED || is_taken(counter) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* Where the TCP header of a packet from a VIP is; 0 when there is none. Answers carry no extension headers.
 */
static __always_inline __u32 read_answer(const struct frame* frame, __u16* limit) {
    struct decap_address source = {};
    __be16 type = 0;
    __u32 offset = read_ethernet(frame, &type);

    if (!offset) return 0;
    if (type == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = bytes_at(frame, offset, sizeof(*ip));

        if (!ip || ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_TCP) return 0;
        if (ip->frag_off & bpf_htons(0x1fff)) return 0;
        set_v4(&source, ip->saddr);
        *limit = mss_v4;
        offset += ip->ihl * 4U;
    } else {
        struct ipv6hdr* ip = bytes_at(frame, offset, sizeof(*ip));

        if (!ip || ip->version != 6 || ip->nexthdr != IPPROTO_TCP) return 0;
        set_v6(&source, &ip->saddr);
        *limit = mss_v6;
        offset += sizeof(*ip);
    }
    return bpf_map_lookup_elem(&decap_vips, &source) ? offset : 0;
}

struct option_walk {
    struct __sk_buff* skb;
    __u32 offset;
    __u32 end;
    __u32 mss_offset;
};

/* One TCP option. Returns 1 when the walk is over. */
static long step_option(__u32 index, struct option_walk* walk) {
    __u8 kind, length;

    (void)index;
    if (walk->offset >= walk->end || bpf_skb_load_bytes(walk->skb, walk->offset, &kind, 1)) return 1;
    if (kind == TCP_OPTION_END) return 1;
    if (kind == TCP_OPTION_NOP) {
        walk->offset += 1;
        return 0;
    }
    if (bpf_skb_load_bytes(walk->skb, walk->offset + 1, &length, 1)) return 1;
    if (length < 2 || walk->offset + length > walk->end) return 1;
    if (kind == TCP_OPTION_MSS) {
        if (length == TCP_OPTION_MSS_BYTES) walk->mss_offset = walk->offset + 2;
        return 1;
    }
    walk->offset += length;
    return 0;
}

/* Offset of the MSS value among the options in [offset, end); 0 when there is none. bpf_loop, because the
 * verifier would follow every path through 40 unrolled options. */
static __always_inline __u32 find_mss(struct __sk_buff* skb, __u32 offset, __u32 end) {
    struct option_walk walk = {.skb = skb, .offset = offset, .end = end, .mss_offset = 0};

    bpf_loop(TCP_OPTION_BYTES, step_option, &walk, 0);
    return walk.mss_offset;
}

/* bpf_l4_csum_replace without the pseudo-header flag is right in each state of the checksum: it updates a
 * finished one, and leaves a partial one alone, which holds only the pseudo-header's sum until the device
 * finishes it. */
static __always_inline bool store_mss(struct __sk_buff* skb, __u32 tcp, __u32 at, __be16 old, __be16 value) {
    __u16 from = old, to = value;

    if ((at - tcp) & 1) { /* the value straddles two 16-bit words of the sum */
        from = (__u16)(from << 8 | from >> 8);
        to = (__u16)(to << 8 | to >> 8);
    }
    if (bpf_l4_csum_replace(skb, tcp + offsetof(struct tcphdr, check), from, to, sizeof(to))) return false;
    return bpf_skb_store_bytes(skb, at, &value, sizeof(value), 0) == 0;
}

SEC("tc")
int detour_clamp(struct __sk_buff* skb) {
    struct frame frame;
    struct tcphdr* tcp;
    __u32 offset, at;
    __be16 mss = 0;
    __u16 limit = 0;

    make_linear(skb);
    frame.data = (void*)(long)skb->data;
    frame.end = (void*)(long)skb->data_end;
    offset = read_answer(&frame, &limit);
    if (!offset) return TC_ACT_UNSPEC;
    tcp = bytes_at(&frame, offset, sizeof(*tcp));
    if (!tcp || !tcp->syn || !tcp->ack) return TC_ACT_UNSPEC;
    at = find_mss(skb, offset + sizeof(*tcp), offset + tcp->doff * 4U);
    if (at && !bpf_skb_load_bytes(skb, at, &mss, sizeof(mss)) && bpf_ntohs(mss) > limit &&
        store_mss(skb, offset, at, mss, bpf_htons(limit))) {
        count(DECAP_SYNACK_CLAMPED);
    } else {
        count(DECAP_SYNACK_KEPT);
    }
    return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
