/* An addon for Node that reseeds OpenSSL's generator from the kernel each time it is loaded with process.dlopen:
 *
 *     cc -shared -fPIC -o reseed.node reseed.c
 */
int RAND_poll(void);

void *napi_register_module_v1(void *env, void *exports) {
  RAND_poll();
  return exports;
}
