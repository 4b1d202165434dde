/* The job that does nothing, without a C library: that looks at the processor's caches by `cpuid` before main,
   which a virtual machine traps, so that most of the time of noop.c is the machine's. */
void _start(void)
{
#if defined(__x86_64__)
	__asm__ volatile("mov $60, %eax\n\txor %edi, %edi\n\tsyscall");
#elif defined(__aarch64__)
	__asm__ volatile("mov x8, #93\n\tmov x0, #0\n\tsvc #0");
#else
#error "no system call is known for this processor"
#endif
}
