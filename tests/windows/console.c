// Starts a program in a console of its own, waits until it has written some lines, sends it a console event, and writes to LOG how it ended.
//
//   console.exe ctrl-c|ctrl-break|ctrl-break-group|close LOG FILE LINES COMMAND..
//
// ctrl-c and ctrl-break go to all of the console, ctrl-break-group to a process group of the program's own, close is the window's.
// Exits with the program's exit code; 250: it could not be started, 251: the event was refused, 252: the program did not end within a minute,
// 253: it ended, or two minutes went by, before it had written the lines.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static HANDLE program;

static BOOL WINAPI outlive(DWORD event) {
    // Windows ends a process whose handler returns from the closing of its console.
    if (event >= CTRL_CLOSE_EVENT) WaitForSingleObject(program, 60000);
    return TRUE;
}

static int lines_of(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    int count = 0;
    for (int c; (c = fgetc(file)) != EOF;) count += c == '\n';
    fclose(file);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 6) return 250;
    const char *event = argv[1];
    FILE *log = fopen(argv[2], "w");
    if (!log) return 250;
    setvbuf(log, 0, _IONBF, 0);
    char line[4096] = "";
    for (int i = 5; i < argc; i++) {
        if (strlen(line) + strlen(argv[i]) + 2 > sizeof line) return 250;
        strcat(line, argv[i]);
        strcat(line, " ");
    }
    FreeConsole();
    if (!AllocConsole()) fprintf(log, "no console: error %lu\n", GetLastError());
    SetConsoleCtrlHandler(outlive, TRUE);
    int is_group = !strcmp(event, "ctrl-break-group");
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION started;
    if (!CreateProcessA(0, line, 0, 0, FALSE, is_group ? CREATE_NEW_PROCESS_GROUP : 0, 0, 0, &startup, &started)) {
        fprintf(log, "could not start %s: error %lu\n", line, GetLastError());
        return 250;
    }
    program = started.hProcess;
    int wanted = atoi(argv[4]);
    for (int waited = 0; lines_of(argv[3]) < wanted; waited++) {
        Sleep(10);
        if (waited == 12000 || WaitForSingleObject(program, 0) == WAIT_OBJECT_0) {
            fprintf(log, "%s did not get to %d lines\n", argv[3], wanted);
            TerminateProcess(program, 99);
            return 253;
        }
    }
    BOOL is_sent;
    if (!strcmp(event, "close"))
        is_sent = PostMessageA(GetConsoleWindow(), WM_CLOSE, 0, 0);
    else
        is_sent = GenerateConsoleCtrlEvent(strcmp(event, "ctrl-c") ? CTRL_BREAK_EVENT : CTRL_C_EVENT, is_group ? started.dwProcessId : 0);
    if (!is_sent) {
        fprintf(log, "%s refused: error %lu\n", event, GetLastError());
        TerminateProcess(program, 99);
        return 251;
    }
    if (WaitForSingleObject(program, 60000)) {
        fprintf(log, "%s sent, the program did not end\n", event);
        TerminateProcess(program, 99);
        return 252;
    }
    DWORD code = 0;
    GetExitCodeProcess(program, &code);
    fprintf(log, "%s sent after %d lines, exit code %lu\n", event, wanted, code);
    return code;
}
