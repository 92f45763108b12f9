/* Preloaded into h2load, which has no option for it: the certificate of MTLS_CERT and the key of MTLS_KEY (PEM files)
 * are presented by every TLS client of the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method) {
    SSL_CTX *(*real)(const SSL_METHOD *) = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, "SSL_CTX_new");
    SSL_CTX *made = real(method);
    const char *certificate = getenv("MTLS_CERT"), *key = getenv("MTLS_KEY");
    if (made && certificate && key &&
        (SSL_CTX_use_certificate_chain_file(made, certificate) != 1 ||
         SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1))
        fputs("client certificate: load failed\n", stderr);
    return made;
}
