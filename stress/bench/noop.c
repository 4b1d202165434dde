/* The job that does nothing. Linked statically, so that no loader is measured. */
int main(void) { return 0; }
