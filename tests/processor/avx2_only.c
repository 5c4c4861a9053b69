/*
 * Runs a program as if the processor had AVX2 and nothing newer: preloaded, this lets CPUID fault and answers it with the bits
 * of AVX-512, AVX-VNNI, bf16 and AMX cleared. Linux on x86-64, on processors with CPUID faulting (`cpuid_fault` in
 * /proc/cpuinfo). `make test-avx2` uses it.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Leaf 7, subleaf 0: AVX-512 (F, DQ, IFMA, PF, ER, CD, BW, VL), (VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ), (4VNNIW, 4FMAPS, VP2INTERSECT,
 * AMX-BF16, FP16, AMX-TILE, AMX-INT8). */
static const unsigned HIDDEN_EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const unsigned HIDDEN_ECX = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
static const unsigned HIDDEN_EDX = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;

typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);

static long let_cpuid_fault(int fault) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !fault); }

static sigaction_function *system_sigaction(void) { return (sigaction_function *)dlsym(RTLD_NEXT, "sigaction"); }

static void answer_cpuid(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) {
        /* A real fault: it happens again after this, and ends the process. */
        struct sigaction usual = {.sa_handler = SIG_DFL};
        system_sigaction()(number, &usual, NULL);
        return;
    }
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    let_cpuid_fault(0);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    let_cpuid_fault(1);
    if (leaf == 7 && subleaf == 0) {
        b &= ~HIDDEN_EBX;
        c &= ~HIDDEN_ECX;
        d &= ~HIDDEN_EDX;
    } else if (leaf == 7 && subleaf == 1) {
        /* AVX-VNNI, AVX512-BF16, AMX-FP16 and their like. */
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

/* The signal that CPUID raises stays with this file. */
int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    return system_sigaction()(number, number == SIGSEGV ? NULL : action, old);
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {.sa_sigaction = answer_cpuid, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    system_sigaction()(SIGSEGV, &action, NULL);
    if (let_cpuid_fault(1)) {
        perror("CPUID does not fault on this processor");
        _exit(97);
    }
}
