/* A Windows service that writes a line to the file named by its first argument whenever it starts. The tests under
   Wine have the component restart it. */
#include <stdio.h>
#include <windows.h>

static SERVICE_STATUS_HANDLE handle;
static HANDLE stopping;
static const char *path;

static void report(DWORD state)
{
    SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, state, SERVICE_ACCEPT_STOP, 0, 0, 0, 5000};
    SetServiceStatus(handle, &status);
}

static DWORD WINAPI control(DWORD code, DWORD type, void *data, void *context)
{
    if (code == SERVICE_CONTROL_STOP) {
        report(SERVICE_STOP_PENDING);
        SetEvent(stopping);
    }
    return NO_ERROR;
}

static void WINAPI serve(DWORD count, char **arguments)
{
    FILE *file;

    handle = RegisterServiceCtrlHandlerExA("greengrass", control, NULL);
    stopping = CreateEventA(NULL, TRUE, FALSE, NULL);
    file = fopen(path, "a");
    if (file) {
        fprintf(file, "started\n");
        fclose(file);
    }
    report(SERVICE_RUNNING);
    WaitForSingleObject(stopping, INFINITE);
    Sleep(500); /* a nucleus takes its time */
    report(SERVICE_STOPPED);
}

int main(int count, char **arguments)
{
    SERVICE_TABLE_ENTRYA table[] = {{"greengrass", serve}, {NULL, NULL}};

    path = arguments[1];
    return !StartServiceCtrlDispatcherA(table);
}
