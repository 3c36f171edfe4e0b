/* Makes one call on files fail, as a disk does: preloaded into the program, which is then really told ENOSPC or EIO by write, fsync,
   rename, open, opendir, mkdir, unlink, rmdir or ftruncate; or is killed there. Calls count where they concern a path that has FAULT_UNDER in it.

     FAULT_AT=n          the n-th call fails (1, 2, ..); 0: none
     FAULT_ERRNO=e       with this errno
     FAULT_SHORT=1       a write that fails has written half of its bytes before
     FAULT_KILL=1        instead of failing, the process gets SIGKILL
     FAULT_COUNT=file    how many calls there were is written there at the end
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls, fails_at, fails_with;
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("FAULT_AT"), *with = getenv("FAULT_ERRNO");
    under = getenv("FAULT_UNDER");
    fails_at = at ? atol(at) : 0;
    fails_with = with ? atol(with) : EIO;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", calls);
        fclose(file);
    }
}

/* Whether this call is the one that fails. */
static int fails(const char *path) {
    if (!under || !strstr(path, under)) return 0;
    pthread_mutex_lock(&lock);
    int fails = ++calls == fails_at;
    pthread_mutex_unlock(&lock);
    if (fails) errno = (int)fails_with;
    return fails;
}

static void die_if_asked(void) {
    if (getenv("FAULT_KILL")) kill(getpid(), SIGKILL);
}

/* The same, for calls that do nothing where they fail. */
static int stops(const char *path) {
    int stops = fails(path);
    if (stops) die_if_asked();
    return stops;
}

static const char *path_of(int fd, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, size - 1);
    buffer[n > 0 ? n : 0] = 0;
    return buffer;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(write);
    char path[4096];
    if (fd > 2 && fails(path_of(fd, path, sizeof path))) {
        int error = errno;
        if (getenv("FAULT_SHORT") && n > 1) {
            real(fd, bytes, n / 2);
        }
        die_if_asked();
        errno = error;
        return -1;
    }
    return real(fd, bytes, n);
}

int fsync(int fd) {
    REAL(fsync);
    char path[4096];
    return stops(path_of(fd, path, sizeof path)) ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return stops(to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return stops(path) ? -1 : real(path, mode);
}

DIR *opendir(const char *path) {
    REAL(opendir);
    return stops(path) ? NULL : real(path);
}

/* A lock that stays behind keeps nobody out. */
int unlink(const char *path) {
    REAL(unlink);
    const char *name = strrchr(path, '/');
    return !(name && !strcmp(name, "/.lock")) && stops(path) ? -1 : real(path);
}

int rmdir(const char *path) {
    REAL(rmdir);
    return stops(path) ? -1 : real(path);
}

int unlinkat(int directory, const char *name, int flags) {
    REAL(unlinkat);
    char path[4096];
    return stops(*name == '/' ? name : path_of(directory, path, sizeof path)) ? -1 : real(directory, name, flags);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    char path[4096];
    return stops(path_of(fd, path, sizeof path)) ? -1 : real(fd, length);
}

/* Opening to read tells nothing of a disk that cannot be written. */
int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, int);
    va_end(rest);
    if ((flags & O_ACCMODE) != O_RDONLY && stops(path)) return -1;
    return real(path, flags, mode);
}
