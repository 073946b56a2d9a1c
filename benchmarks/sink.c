/* sink: a syslog that throws everything away, so that the audit costs what it costs the server and no more.
 *
 *   sink PATH         a unix datagram socket, made there
 *
 * It runs until it is stopped.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv) {
    static char lines[64][9000];
    struct iovec part[64];
    struct mmsghdr message[64];
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (argc != 2) return 2;
    strncpy(u.sun_path, argv[1], sizeof u.sun_path - 1);
    if (bind(fd, (void *)&u, sizeof u)) {
        perror(argv[1]);
        return 1;
    }
    memset(message, 0, sizeof message);
    for (int i = 0; i < 64; i++) {
        part[i] = (struct iovec){ lines[i], sizeof lines[i] };
        message[i].msg_hdr.msg_iov = &part[i];
        message[i].msg_hdr.msg_iovlen = 1;
    }
    while (recvmmsg(fd, message, 64, MSG_WAITFORONE, NULL) > 0) {}
    return 1;
}
