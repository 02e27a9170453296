#include <sys/wait.h>
#include <unistd.h>

#include "CTestSupport.h"

bool test_in_fork(bool (*body)(void *context), void *context, unsigned seconds) {
  pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    alarm(seconds);  // ends a child that hangs
    _exit(body(context) ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
