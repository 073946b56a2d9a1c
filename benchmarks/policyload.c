/* policyload: load on a Postfix policy-delegation server, as smtpd(8) processes make it.
 *
 *   policyload [-c CONNECTIONS] [-l LEAST] [-t SECONDS] [-w SECONDS] [-n RECIPIENTS] [-z EXPONENT] [-s SENDERS]
 *              [-x PERCENT] [-r RATE [-p]] ADDRESS [PID...]
 *
 * ADDRESS  inet:127.0.0.1:PORT or unix:PATH
 * PID...   the server's processes, whose CPU time is divided by the number of replies
 * -c       connections, kept open; each sends a request, waits for its reply, sends the next (default 10)
 * -l       how many of them are open wanders between this and -c, as smtpd(8) processes start and end: before
 *          each request, one opens, one closes, or neither. Needs -r. Default: all stay open
 * -t       how long it counts (default 3), after -w seconds of the same that it does not (default 0.5)
 * -n       recipients are u0..u<N-1>@example.com, drawn evenly (default 1000)
 * -z       recipients are drawn by Zipf's law in the place of that: the k-th most frequent one as 1/k^EXPONENT.
 *          Which are the frequent ones has nothing to do with their numbers
 * -s       senders are s0..s<N-1>@sender.example, drawn evenly (default 1000)
 * -x       of 100 recipients, how many are x<number>@example.com instead, which nobody has (default 0)
 * -r       requests a second over all connections; 0 (default) is as fast as replies come.
 *          A request that finds no free connection waits, and the wait counts: latency begins when it was due.
 * -p       they are due at random, as a Poisson process: seldom and close together (default: evenly spaced)
 *
 * Prints on one line: requests a second, CPU microseconds per reply, percentiles of the latency in
 * microseconds, and how many replies began with which action. Ends with 1 where a connection was lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LATENCIES = 1 << 24, REPLY = 1024 };
struct connection { int fd, have; unsigned serial; double sent; char reply[REPLY]; };
struct ids { int *id, count; };
struct counts { size_t replies; long dunno, reject, other, dropped; };

static int connections = 10, least = 0, percent = 0, is_poisson = 0, epoll;
static double seconds = 3, warm_seconds = 0.5, rate = 0, exponent = 0;
static const char *address;
static uint64_t recipients = 1000, senders = 1000, state = 88172645463325252ull;
static struct connection *all;
static struct ids idle, shut; /* which connections wait for a request, and which are not open */
static double *frequency; /* by rank: how much of all is drawn up to there, of 1 */
static struct counts counts;
static float *latency;

static double seconds_of(clockid_t clock) {
    struct timespec t;
    return clock_gettime(clock, &t) ? 0 : t.tv_sec + t.tv_nsec * 1e-9;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

/* What the processes have used, all their threads, to the nanosecond: /proc/PID/stat counts hundredths. */
static double cpu_seconds(char **pids) {
    double total = 0;
    for (; *pids; pids++) {
        clockid_t clock;
        if (!clock_getcpuclockid(atoi(*pids), &clock)) total += seconds_of(clock);
    }
    return total;
}

static uint64_t draw(uint64_t below) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state % below;
}

/* Evenly above 0 and up to 1. */
static double draw_fraction(void) { return (draw(1ull << 53) + 1) / (double)(1ull << 53); }

static void prepare_zipf(void) {
    double sum = 0;
    frequency = malloc(recipients * sizeof *frequency);
    for (uint64_t rank = 0; rank < recipients; rank++) frequency[rank] = sum += pow(rank + 1, -exponent);
    for (uint64_t rank = 0; rank < recipients; rank++) frequency[rank] /= sum;
}

static unsigned long draw_recipient(void) {
    if (!frequency) return draw(recipients);
    double fraction = draw_fraction();
    uint64_t low = 0, high = recipients - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (frequency[middle] < fraction) low = middle + 1;
        else high = middle;
    }
    /* Neighbours in rank are no neighbours in the tables: a prime that divides no N so small leads to all numbers. */
    return low * 2654435761ull % recipients;
}

/* A request as Postfix 3.7 sends it. */
static int build(char *out, size_t size, struct connection *c, int id) {
    unsigned long sender = draw(senders), recipient = draw_recipient();
    int host = id % 250;
    char kind = percent && draw(100) < (uint64_t)percent ? 'x' : 'u';
    return snprintf(out, size,
        "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
        "client_address=192.0.2.%d\nclient_name=mail%d.sender.example\nclient_port=%d\n"
        "reverse_client_name=mail%d.sender.example\nserver_address=198.51.100.7\nserver_port=25\n"
        "helo_name=mail%d.sender.example\nsender=s%lu@sender.example\nrecipient=%c%lu@example.com\n"
        "recipient_count=0\nqueue_id=\ninstance=%x.%x.%lx.0\nsize=12345\netrn_domain=\nstress=\n"
        "sasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n"
        "ccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"
        "encryption_keysize=256\npolicy_context=\nmail_version=3.7.11\ncompatibility_level=3.6\n\n",
        host + 1, host, 30000 + id, host, host, sender, kind, recipient, id, c->serial++, recipient & 0xffff);
}

static int dial(void) {
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd, failed, port, one = 1;
    if (!strncmp(address, "unix:", 5)) {
        strncpy(u.sun_path, address + 5, sizeof u.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        failed = connect(fd, (void *)&u, sizeof u);
    } else {
        if (sscanf(address, "inet:127.0.0.1:%d", &port) != 1) { fprintf(stderr, "bad address %s\n", address); exit(2); }
        a.sin_port = htons(port);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        failed = connect(fd, (void *)&a, sizeof a);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    if (failed) { perror(address); exit(1); }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void open_one(void) {
    struct epoll_event wanted = { .events = EPOLLIN, .data.u32 = shut.id[--shut.count] };
    int id = wanted.data.u32;
    all[id].fd = dial();
    epoll_ctl(epoll, EPOLL_CTL_ADD, all[id].fd, &wanted);
    idle.id[idle.count++] = id;
}

/* Any that is idle, which is then no longer among those. */
static int take_idle(void) {
    int at = draw(idle.count), id = idle.id[at];
    idle.id[at] = idle.id[--idle.count];
    return id;
}

static void wander(void) {
    uint64_t direction = draw(3);
    if (direction == 0 && shut.count) open_one();
    if (direction == 1 && connections - shut.count > least && idle.count) {
        int id = take_idle();
        close(all[id].fd);
        shut.id[shut.count++] = id;
    }
}

static void drop(struct connection *c) {
    counts.dropped++;
    close(c->fd);
}

static void ask(int id, double sent) {
    char out[4096];
    int size = build(out, sizeof out, &all[id], id);
    all[id].sent = sent;
    if (write(all[id].fd, out, size) != size) drop(&all[id]);
}

static void count(const struct connection *c) {
    if (counts.replies < LATENCIES) latency[counts.replies] = (now() - c->sent) * 1e6;
    counts.replies++;
    if (c->have >= 12 && !memcmp(c->reply, "action=DUNNO", 12)) counts.dunno++;
    else if (c->have >= 13 && !memcmp(c->reply, "action=REJECT", 13)) counts.reject++;
    else counts.other++;
}

static void receive(int id) {
    struct connection *c = &all[id];
    ssize_t got = read(c->fd, c->reply + c->have, REPLY - c->have);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { drop(c); return; }
    c->have += got;
    if (c->have < 2 || memcmp(c->reply + c->have - 2, "\n\n", 2)) return;
    count(c);
    c->have = 0;
    idle.id[idle.count++] = id;
}

/* Ask and be answered until `end`; `due` is when the next request is, where there is a rate. */
static double converse(double due, double end) {
    struct epoll_event ready[256];
    for (double t; (t = now()) < end;) {
        while (idle.count && (rate == 0 || due <= t)) {
            if (least) wander();
            if (!idle.count) break;
            ask(take_idle(), rate == 0 ? now() : due);
            if (rate > 0) due += is_poisson ? -log(draw_fraction()) / rate : 1 / rate;
        }
        double next = rate > 0 && idle.count ? due : end;
        int wait = next <= t ? 0 : (int)((next - t) * 1000);
        int count = epoll_wait(epoll, ready, 256, wait < 100 ? wait : 100);
        for (int i = 0; i < count; i++) receive(ready[i].data.u32);
    }
    return due;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int report(double took, double busy) {
    size_t known = counts.replies < LATENCIES ? counts.replies : LATENCIES;
    if (!known) { printf("no replies, dropped=%ld\n", counts.dropped); return 1; }
    qsort(latency, known, sizeof *latency, by_value);
    printf("rps=%.1f cpu=%.3f p50=%.0f p99=%.0f p99.9=%.0f max=%.0f n=%zu dunno=%ld reject=%ld other=%ld dropped=%ld\n",
        counts.replies / took, busy * 1e6 / counts.replies, latency[known / 2], latency[(size_t)(known * .99)],
        latency[(size_t)(known * .999)], latency[known - 1], counts.replies, counts.dunno, counts.reject,
        counts.other, counts.dropped);
    return counts.dropped != 0;
}

static char **options(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "c:l:t:w:n:z:s:x:r:p")) != -1;) {
        switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'l': least = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'w': warm_seconds = atof(optarg); break;
        case 'n': recipients = strtoull(optarg, NULL, 10); break;
        case 'z': exponent = atof(optarg); break;
        case 's': senders = strtoull(optarg, NULL, 10); break;
        case 'x': percent = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'p': is_poisson = 1; break;
        default: exit(2);
        }
    }
    int needs_rate = least || is_poisson;
    if (optind >= argc || connections < 1 || least > connections || !recipients || !senders || (needs_rate && !rate)) {
        fprintf(stderr, "usage: policyload [-c N] [-l LEAST] [-t S] [-w S] [-n N] [-z EXPONENT] [-s N] [-x PERCENT] "
            "[-r RATE [-p]] ADDRESS [PID...]\n");
        exit(2);
    }
    return argv + optind;
}

int main(int argc, char **argv) {
    char **words = options(argc, argv);
    address = words[0];
    epoll = epoll_create1(0);
    all = calloc(connections, sizeof *all);
    idle.id = calloc(connections, sizeof *idle.id);
    shut.id = calloc(connections, sizeof *shut.id);
    latency = malloc(LATENCIES * sizeof *latency);
    if (exponent > 0) prepare_zipf();
    while (shut.count < connections) shut.id[shut.count] = shut.count, shut.count++;
    for (int wanted = least ? (least + connections) / 2 : connections; connections - shut.count < wanted;) open_one();
    double due = converse(now(), now() + warm_seconds);
    long dropped = counts.dropped;
    counts = (struct counts){ .dropped = dropped };
    double start = now(), busy = cpu_seconds(words + 1);
    converse(due, start + seconds);
    busy = cpu_seconds(words + 1) - busy;
    return report(now() - start, busy);
}
