/* The hook that does nothing: what any hook costs at the least. */
int main(void) { return 0; }
