/* floor: the least that a policy server can do.
 *
 *   floor ADDRESS     inet:127.0.0.1:PORT or unix:PATH
 *
 * It reads, sees the empty line that ends a request, and answers DUNNO: no parsing, no lookup, no log.
 * What a real server costs beyond this is its own doing. It takes one request at a time of each
 * connection, as smtpd(8) sends them, and runs until it is stopped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_on(const char *address) {
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, port, fd, failed;
    if (!strncmp(address, "unix:", 5)) {
        strncpy(u.sun_path, address + 5, sizeof u.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        failed = bind(fd, (void *)&u, sizeof u);
    } else {
        if (sscanf(address, "inet:127.0.0.1:%d", &port) != 1) return -1;
        a.sin_port = htons(port);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        failed = bind(fd, (void *)&a, sizeof a);
    }
    return failed || listen(fd, 1024) ? -1 : fd;
}

static void watch(int poll, int fd) {
    struct epoll_event wanted = { .events = EPOLLIN, .data.fd = fd };
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
}

static void take(int poll, int listener) {
    int one = 1, fd = accept(listener, 0, 0);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* does nothing to a unix socket */
    watch(poll, fd);
}

static void answer(int fd) {
    char request[8192];
    ssize_t got = read(fd, request, sizeof request);
    if (got <= 0) close(fd);
    else if (got > 1 && !memcmp(request + got - 2, "\n\n", 2) && write(fd, "action=DUNNO\n\n", 14) < 0) close(fd);
}

int main(int argc, char **argv) {
    struct epoll_event ready[256];
    int poll = epoll_create1(0), listener = argc == 2 ? listen_on(argv[1]) : -1;
    if (listener < 0) {
        fprintf(stderr, "usage: floor inet:127.0.0.1:PORT | unix:PATH, where nobody listens\n");
        return 2;
    }
    watch(poll, listener);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener) take(poll, listener);
            else answer(ready[i].data.fd);
        }
    }
}
