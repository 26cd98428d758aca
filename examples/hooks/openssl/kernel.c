/* A provider for OpenSSL 3 whose generator keeps no state: each call asks the kernel. So clones share nothing of it, and an app
 * needs no hook for it, in any of its processes and threads. See openssl.cnf for its use.
 *
 *     cc -shared -fPIC -o kernel.so kernel.c
 */
typedef unsigned long size_t;
#define NULL ((void *)0)

long getrandom(void *, size_t, unsigned);
int strcmp(const char *, const char *);

/* What of <openssl/core.h> and <openssl/core_dispatch.h> it takes; neither changes within OpenSSL 3. */
typedef struct { int id; void (*function)(void); } OSSL_DISPATCH;
typedef struct { const char *names, *properties; const OSSL_DISPATCH *implementation; const char *description; } OSSL_ALGORITHM;
typedef struct { const char *key; unsigned type; void *data; size_t size, returned; } OSSL_PARAM;

static void *new(void *provider, void *parent, const OSSL_DISPATCH *calls) { return &strcmp; /* any address */ }
static void forget(void *context) {}
static int yes(void *context) { return 1; }

static int generate(void *context, unsigned char *out, size_t size) {
  while (size > 0) {
    long n = getrandom(out, size, 0);
    if (n > 0) out += n, size -= n; /* else a signal came first */
  }
  return 1;
}

static int parameters(void *context, OSSL_PARAM *p) {
  for (; p->key != NULL; p++) {
    if (!strcmp(p->key, "state")) *(int *)p->data = 1; /* ready */
    if (!strcmp(p->key, "strength")) *(unsigned *)p->data = 256;
    if (!strcmp(p->key, "max_request")) *(size_t *)p->data = 1 << 20;
  }
  return 1;
}

#define F(f) (void (*)(void))f
static const OSSL_DISPATCH calls[] = {{1, F(new)}, {2, F(forget)}, {3, F(yes)}, {4, F(yes)}, {5, F(generate)}, {6, F(yes)},
  {8, F(yes)}, {9, F(yes)}, {10, F(forget)}, {15, F(parameters)}, {0, NULL}};
static const OSSL_ALGORITHM generators[] = {{"KERNEL", "provider=kernel", calls, "getrandom"}, {NULL, NULL, NULL, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache) { return operation == 5 ? generators : NULL; }
static const OSSL_DISPATCH provider[] = {{1027, F(query)}, {0, NULL}};

int OSSL_provider_init(const void *core, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context) {
  *out = provider;
  return 1;
}
