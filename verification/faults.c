/* Faults in the calls that write below one folder, for verification/faults.py: preloaded, and quiet until armed.

   Every call of libc that changes what is on disk below the folder is counted, and the n-th one goes wrong. Calls are made one at
   a time while it is armed. With a shadow folder, each file that is forced to the disk is copied there under the number of its
   inode: what is not there would not outlive a power cut. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, CRASH, CRASH_AFTER, TORN, SHORT, NO_SPACE, IO_ERROR };

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], shadow[PATH_MAX];
static volatile long armed, counted, nth, span;
static int kind, log_descriptor = -1;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* From the n-th call on, over so many calls, the calls below the folder go wrong; n = 0 counts them alone. */
void faults_arm(const char *below, const char *copies, const char *list, int what, long n, long over) {
    snprintf(folder, sizeof folder, "%s", below);
    snprintf(shadow, sizeof shadow, "%s", copies);
    kind = what, nth = n, span = over, counted = 0;
    log_descriptor = *list ? open(list, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    armed = 1;
}

long faults_disarm(void) {
    pthread_mutex_lock(&one_at_a_time);
    armed = 0;
    if (log_descriptor >= 0) close(log_descriptor);
    log_descriptor = -1;
    pthread_mutex_unlock(&one_at_a_time);
    return counted;
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return size > 0;
}

static int path_at(int directory, const char *name, char *path) {
    char start[PATH_MAX] = "";
    if (*name != '/') {
        if (directory == AT_FDCWD ? !getcwd(start, sizeof start) : !path_of(directory, start)) return 0;
        strncat(start, "/", sizeof start - strlen(start) - 1);
    }
    return snprintf(path, PATH_MAX, "%s%s", start, name) < PATH_MAX;
}

static int is_below(const char *path) {
    size_t size = strlen(folder);
    return !strncmp(path, folder, size) && (path[size] == '/' || !path[size]);
}

static ssize_t really_write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(descriptor, data, size);
}

/* Counts a call; what is to happen at it. */
static int fault_at(const char *call, const char *path, int takes_space) {
    char line[PATH_MAX + 64];
    counted++;
    int size = snprintf(line, sizeof line, "%ld %s %s\n", counted, call, path + strlen(folder));
    if (log_descriptor >= 0) really_write(log_descriptor, line, size);
    if (!nth || counted < nth || counted - nth >= span) return COUNT;
    if (kind == NO_SPACE && !takes_space) return COUNT;
    if (kind == CRASH) kill(getpid(), SIGKILL), pause();
    return kind;
}

static void crash_after(int what) {
    if (what == CRASH_AFTER || what == TORN) kill(getpid(), SIGKILL), pause();
}

static int error_of(int what) { return what == NO_SPACE ? ENOSPC : what == IO_ERROR ? EIO : 0; }

/* A copy of what is on the disk for certain. */
static void keep(int descriptor) {
    char name[PATH_MAX + 32], path[PATH_MAX], piece[65536];
    struct stat about;
    if (!*shadow || fstat(descriptor, &about) || !S_ISREG(about.st_mode) || !path_of(descriptor, path)) return;
    snprintf(name, sizeof name, "%s/%lu", shadow, (unsigned long)about.st_ino);
    int from = open(path, O_RDONLY), to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (ssize_t size; from >= 0 && (size = read(from, piece, sizeof piece)) > 0;) really_write(to, piece, size);
    if (from >= 0) close(from);
    if (to >= 0) close(to);
}

/* One call: counted if its path is below the folder, then made, left out, or made by half. */
#define CALL(type, name, found, takes_space, whole, made_by_half) \
    char path[PATH_MAX]; \
    if (!armed || !(found) || !is_below(path)) return whole; \
    pthread_mutex_lock(&one_at_a_time); \
    int what = armed ? fault_at(name, path, takes_space) : COUNT, error = error_of(what); \
    type result = error ? -1 : what == TORN || what == SHORT ? (made_by_half) : (whole); \
    if (!error) error = errno; \
    crash_after(what); \
    pthread_mutex_unlock(&one_at_a_time); \
    errno = error; \
    return result

#define HALF(size) ((size) > 1 ? (size) / 2 : (size))

ssize_t write(int descriptor, const void *data, size_t size) {
    CALL(ssize_t, "write", path_of(descriptor, path), 1, really_write(descriptor, data, size),
         really_write(descriptor, data, HALF(size)));
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t place) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    CALL(ssize_t, "pwrite", path_of(descriptor, path), 1, real(descriptor, data, size, place),
         real(descriptor, data, HALF(size), place));
}
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));

ssize_t writev(int descriptor, const struct iovec *pieces, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    CALL(ssize_t, "writev", path_of(descriptor, path), 1, real(descriptor, pieces, number),
         really_write(descriptor, pieces[0].iov_base, HALF(pieces[0].iov_len)));
}

ssize_t pwritev(int descriptor, const struct iovec *pieces, int number, off_t place) {
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    CALL(ssize_t, "pwritev", path_of(descriptor, path), 1, real(descriptor, pieces, number, place),
         real(descriptor, pieces, 1, place));
}
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

ssize_t sendfile(int to, int from, off_t *place, size_t size) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    CALL(ssize_t, "sendfile", path_of(to, path), 1, real(to, from, place, size), real(to, from, place, HALF(size)));
}
ssize_t sendfile64(int, int, off_t *, size_t) __attribute__((alias("sendfile")));

ssize_t copy_file_range(int from, off_t *here, int to, off_t *there, size_t size, unsigned int flags) {
    REAL(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned int);
    CALL(ssize_t, "copy_file_range", path_of(to, path), 1, real(from, here, to, there, size, flags),
         real(from, here, to, there, HALF(size), flags));
}

static int synced(int (*real)(int), int descriptor) {
    int result = real(descriptor);
    if (!result) keep(descriptor);
    return result;
}

int fsync(int descriptor) {
    REAL(int, "fsync", int);
    CALL(int, "fsync", path_of(descriptor, path), 1, synced(real, descriptor), synced(real, descriptor));
}

int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    CALL(int, "fdatasync", path_of(descriptor, path), 1, synced(real, descriptor), synced(real, descriptor));
}

int ftruncate(int descriptor, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    CALL(int, "ftruncate", path_of(descriptor, path), 0, real(descriptor, size), real(descriptor, size));
}
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));

/* A rename counts where it comes from below the folder or goes there; the path that is counted is the new one. */
int renameat2(int before, const char *old, int after, const char *new, unsigned int flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned int);
    CALL(int, "rename", path_at(after, new, path), 0, real(before, old, after, new, flags),
         real(before, old, after, new, flags));
}
int renameat(int before, const char *old, int after, const char *new) { return renameat2(before, old, after, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int directory, const char *name, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    CALL(int, flags & AT_REMOVEDIR ? "rmdir" : "unlink", path_at(directory, name, path), 0, real(directory, name, flags),
         real(directory, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int directory, const char *name, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    CALL(int, "mkdir", path_at(directory, name, path), 1, real(directory, name, mode), real(directory, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int linkat(int before, const char *old, int after, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    CALL(int, "link", path_at(after, new, path), 1, real(before, old, after, new, flags),
         real(before, old, after, new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

/* Opens a file; a new one has no copy, whatever file had its inode before. */
static int made(int (*real)(int, const char *, int, ...), int directory, const char *name, int flags, mode_t mode) {
    char copy[PATH_MAX + 32];
    struct stat about;
    int is_new = faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW), result = real(directory, name, flags, mode);
    if (is_new && result >= 0 && !fstat(result, &about)) {
        snprintf(copy, sizeof copy, "%s/%lu", shadow, (unsigned long)about.st_ino);
        if (*shadow) unlinkat(AT_FDCWD, copy, 0);
    }
    return result;
}

static int opened(int directory, const char *name, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    if (!(flags & (O_CREAT | O_TRUNC))) return real(directory, name, flags, mode);
    CALL(int, "open", path_at(directory, name, path), 1, made(real, directory, name, flags, mode),
         made(real, directory, name, flags, mode));
}

#define OPEN(declared, directory) \
    declared { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        return opened(directory, name, flags, mode); \
    }

OPEN(int openat(int directory, const char *name, int flags, ...), directory)
OPEN(int openat64(int directory, const char *name, int flags, ...), directory)
OPEN(int open(const char *name, int flags, ...), AT_FDCWD)
OPEN(int open64(const char *name, int flags, ...), AT_FDCWD)
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode); }
