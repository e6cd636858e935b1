/* Init of the test guest: loads the kernel modules of the initial RAM file system, gives eth0 the address 10.0.0.2 and
 * answers one command per TCP connection on port 5000:
 *   count           the next number, counted in memory
 *   fill N SEED     writes N MiB of memory
 *   sum             adds that memory up
 *   write TEXT      writes to the first disk; read: reads it back
 *   zeros           writes a MiB of zeros to it
 *   off             powers the machine off; reset: ends init, so that the kernel panics
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR 4096

static uint64_t counter;
static unsigned char *memory;
static size_t memory_bytes;
static char sector[SECTOR] __attribute__((aligned(SECTOR)));

static void load_modules(void)
{
    glob_t found;
    if (glob("/lib/modules/*.ko", 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int file = open(found.gl_pathv[i], O_RDONLY);
        if (syscall(SYS_finit_module, file, "", 0) != 0)
            perror(found.gl_pathv[i]);
        close(file);
    }
}

static void set_up_network(void)
{
    struct ifreq request = {0};
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(request.ifr_name, "eth0");
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = inet_addr("10.0.0.2");
    if (ioctl(socket_fd, SIOCSIFADDR, &request) != 0)
        perror("SIOCSIFADDR");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(socket_fd, SIOCSIFFLAGS, &request) != 0)
        perror("SIOCSIFFLAGS");
    close(socket_fd);
}

static void fill(size_t mebibytes, unsigned seed)
{
    free(memory);
    memory_bytes = mebibytes << 20;
    memory = malloc(memory_bytes);
    for (size_t i = 0; i < memory_bytes; i += SECTOR)
        memset(memory + i, (int)(seed + i / SECTOR) % 255 + 1, SECTOR);
}

static uint64_t sum(void)
{
    uint64_t total = 0;
    for (size_t i = 0; i < memory_bytes; i += 64)
        total = total * 31 + memory[i];
    return total;
}

static void answer(char *command, char *reply, size_t size)
{
    size_t mebibytes;
    unsigned seed;
    int disk = open("/dev/vda", O_RDWR | O_DIRECT);
    if (strcmp(command, "count") == 0) {
        snprintf(reply, size, "%llu", (unsigned long long)++counter);
    } else if (sscanf(command, "fill %zu %u", &mebibytes, &seed) == 2) {
        fill(mebibytes, seed);
        snprintf(reply, size, "filled");
    } else if (strcmp(command, "sum") == 0) {
        snprintf(reply, size, "%llu", (unsigned long long)sum());
    } else if (strncmp(command, "write ", 6) == 0) {
        snprintf(sector, SECTOR, "%s", command + 6);
        snprintf(reply, size, "%zd", pwrite(disk, sector, SECTOR, 0));
    } else if (strcmp(command, "zeros") == 0) {
        ssize_t written = 0;
        memset(sector, 0, SECTOR);
        for (off_t at = 1 << 20; at < 2 << 20; at += SECTOR)
            written += pwrite(disk, sector, SECTOR, at);
        snprintf(reply, size, "%zd", written);
    } else if (strcmp(command, "read") == 0) {
        ssize_t length = pread(disk, sector, SECTOR, 0);
        snprintf(reply, size, "%s", length == SECTOR ? sector : "error");
    } else if (strcmp(command, "off") == 0) {
        reboot(RB_POWER_OFF);
    } else if (strcmp(command, "reset") == 0) {
        exit(3);
    }
    close(disk);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(5000)};
    char command[256], reply[SECTOR];
    int yes = 1, listener = -1;
    mount("dev", "/dev", "devtmpfs", 0, "");
    load_modules();
    set_up_network();
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        perror("listen");
    puts("test guest is ready");
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        ssize_t length = read(connection, command, sizeof command - 1);
        if (length > 0) {
            command[strcspn((command[length] = 0, command), "\n")] = 0;
            strcpy(reply, "what?");
            answer(command, reply, sizeof reply);
            dprintf(connection, "%s\n", reply);
        }
        close(connection);
    }
}
