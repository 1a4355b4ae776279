/* Loaded before libc (LD_PRELOAD): counts what a process does to the files below one folder, and ends the
 * process (or stops it) at the one event that it was told: before it, after it, or with half of a write done;
 * or lets it live on, and the disk be full from then on, with half of a write done.
 *
 * An event has a label, `create silver/visits data`, and an ordinal among the events of its label; so it is
 * found again though threads take turns. Marks are events that the program names itself. Not armed, it only
 * passes calls on.
 */
#define _GNU_SOURCE
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

enum { LABEL = 256, LABELS = 1024, FILES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096], target[LABEL], moment;
static unsigned target_ordinal;
static int end_signal, log_to = -1, armed;
static volatile int full; /* nothing grows below the folder any more */
static struct { char label[LABEL]; unsigned count; } seen[LABELS];
static char written[FILES][LABEL], unwritten[FILES]; /* by descriptor: its first write's label; if it is to come */

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t put(int file, const void *bytes, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(file, bytes, size);
}

static void end(void) {
    if (end_signal == SIGSTOP) {
        raise(SIGSTOP);
        return;
    }
    for (;;) { /* the whole group: a process with the programs that it started */
        kill(0, end_signal);
        pause();
    }
}

/* Counts an event; ends the process before it where so told; tells what is to be done at it otherwise. */
static char reach(const char *label) {
    if (!armed) return 0;
    char line[LABEL + 32];
    pthread_mutex_lock(&lock);
    unsigned at = 0;
    while (at < LABELS - 1 && seen[at].count && strcmp(seen[at].label, label)) at++;
    snprintf(seen[at].label, LABEL, "%s", label);
    unsigned ordinal = ++seen[at].count;
    int size = snprintf(line, sizeof line, "%u %s\n", ordinal, label);
    if (put(log_to, line, (size_t)size) < 0) abort();
    pthread_mutex_unlock(&lock);
    if (full) return 'f';
    if (ordinal != target_ordinal || strcmp(label, target)) return 0;
    if (moment == 'b') end();
    full = moment == 'f';
    return moment;
}

static int refuse(void) {
    errno = ENOSPC;
    return -1;
}

void seam_mark(const char *label) { reach(label); }

/* `when`: b(efore), a(fter), t(orn), f(ull); `with` is the signal. An empty label only counts. */
void seam_arm(const char *below, const char *log, const char *label, unsigned ordinal, char when, int with) {
    snprintf(root, sizeof root, "%s/", below);
    snprintf(target, sizeof target, "%s", label);
    target_ordinal = ordinal, moment = when, end_signal = with;
    log_to = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    armed = log_to >= 0;
}

__attribute__((constructor)) static void arm_by_environment(void) {
    const char *below = getenv("SEAM_ROOT");
    if (below)
        seam_arm(below, getenv("SEAM_LOG"), getenv("SEAM_LABEL"), (unsigned)atoi(getenv("SEAM_ORDINAL")),
                 *getenv("SEAM_MOMENT"), atoi(getenv("SEAM_SIGNAL")));
}

/* Names an event by its table and the kind of its file; 0 where the path is not below the folder. */
static int labelled(char *label, const char *what, const char *path) {
    if (!armed || !path || strncmp(path, root, strlen(root))) return 0;
    const char *name = path + strlen(root), *end_of_table = strchr(name, '/');
    end_of_table = end_of_table ? strchr(end_of_table + 1, '/') : 0;
    if (!end_of_table) return 0;
    const char *kind = "other";
    if (strstr(end_of_table, "_delta_log/"))
        kind = strstr(end_of_table, "checkpoint") ? "checkpoint" : strstr(end_of_table, ".json") ? "commit" : "log";
    else if (strstr(end_of_table, ".parquet"))
        kind = "data";
    snprintf(label, LABEL, "%s %.*s %s", what, (int)(end_of_table - name), name, kind);
    return 1;
}

static char before(const char *what, const char *path) {
    char label[LABEL];
    return labelled(label, what, path) ? reach(label) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (!(flags & O_CREAT)) return real(path, flags, mode); \
        char due = before("create", path); \
        if (due == 'f') return refuse(); \
        int file = real(path, flags, mode); \
        if (due == 'a') end(); \
        if (file < 0 || file >= FILES) return file; \
        unwritten[file] = (char)labelled(written[file], "write", path); \
        if (!unwritten[file]) *written[file] = 0; \
        return file; \
    }
OPEN(open)
OPEN(open64)

#define WRITE(name, offset_parameter, offset_argument) \
    ssize_t name(int file, const void *bytes, size_t size offset_parameter) { \
        REAL(ssize_t, #name, int, const void *, size_t offset_parameter); \
        if (file < 0 || file >= FILES || !*written[file]) return real(file, bytes, size offset_argument); \
        if (full) return refuse(); \
        char due = unwritten[file] ? reach(written[file]) : 0; \
        unwritten[file] = 0; \
        ssize_t done = real(file, bytes, due == 't' || due == 'f' ? size / 2 : size offset_argument); \
        if (due && due != 'f') end(); \
        return done; \
    }
#define COMMA ,
WRITE(write, , )
WRITE(pwrite64, COMMA off_t offset, COMMA offset)

int close(int file) {
    REAL(int, "close", int);
    if (file >= 0 && file < FILES) *written[file] = 0;
    return real(file);
}

#define CALL(name, what, path, parameters, ...) \
    int name parameters { \
        static int(*real) parameters; \
        if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
        char due = before(what, path); \
        if (due == 'f' && *what == 'f') return refuse(); \
        int done = real(__VA_ARGS__); \
        if (due == 'a') end(); \
        return done; \
    }
CALL(rename, "publish", new, (const char *old, const char *new), old, new)
CALL(link, "publish", new, (const char *old, const char *new), old, new)
CALL(linkat, "publish", new, (int o, const char *old, int n, const char *new, int flags), o, old, n, new, flags)
CALL(unlink, "remove", path, (const char *path), path)
CALL(mkdir, "folder", path, (const char *path, mode_t mode), path, mode)
