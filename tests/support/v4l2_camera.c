/* A USB camera without hardware: preloaded, it answers for every character device of Video4Linux (major 81).

   It offers YUYV at 640x480 (30 frames a second) and 1280x720 (10), MJPG at both and at 1920x1080 (30), and
   the controls below.  What it is asked for, it writes to the file V4L_TEST_LOG, a line each.
   MJPG frames are the file V4L_TEST_JPEG.  V4L_TEST_FORMAT is another format, the only one.  V4L_TEST_CLOSE_MS is how long stopping the stream takes.
   Built by cameras.py: gcc -shared -fPIC -o v4l2_camera.so v4l2_camera.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES (1920 * 1080 * 2)
#define BUFFERS 16
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static struct mode { unsigned format, width, height, fps; } modes[] = {
    {V4L2_PIX_FMT_YUYV, 640, 480, 30},  {V4L2_PIX_FMT_YUYV, 1280, 720, 10},  {V4L2_PIX_FMT_MJPEG, 640, 480, 30},
    {V4L2_PIX_FMT_MJPEG, 1280, 720, 30}, {V4L2_PIX_FMT_MJPEG, 1920, 1080, 30},
};
static struct control { unsigned id, type; const char *name; int least, most, value; } controls[] = {
    {V4L2_CID_BRIGHTNESS, V4L2_CTRL_TYPE_INTEGER, "Brightness", -64, 64, 0},
    {V4L2_CID_AUTO_WHITE_BALANCE, V4L2_CTRL_TYPE_BOOLEAN, "White Balance, Automatic", 0, 1, 1},
    {V4L2_CID_GAIN, V4L2_CTRL_TYPE_INTEGER, "Gain", 0, 100, 10},
    {V4L2_CID_EXPOSURE_AUTO, V4L2_CTRL_TYPE_MENU, "Auto Exposure", 0, 3, 3},
    {V4L2_CID_EXPOSURE_ABSOLUTE, V4L2_CTRL_TYPE_INTEGER, "Exposure Time, Absolute", 1, 5000, 157},
};
static struct mode *mode = modes;
static unsigned raw = V4L2_PIX_FMT_YUYV, packed = V4L2_PIX_FMT_MJPEG;
static unsigned fps = 30, buffers, queue[BUFFERS], queued, number;
static int handles[1024], streaming;
static FILE *record;
static unsigned char *memory, *jpeg;
static size_t jpeg_bytes;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("V4L_TEST_LOG");
    if (path && (record = fopen(path, "a"))) setvbuf(record, NULL, _IONBF, 0);
    const char *only = getenv("V4L_TEST_FORMAT");
    if (only) {
        raw = v4l2_fourcc(only[0], only[1], only[2], only[3]);
        packed = 0;
        for (unsigned i = 0; i < COUNT(modes); i++) modes[i].format = modes[i].format == V4L2_PIX_FMT_YUYV ? raw : packed;
    }
    FILE *picture = getenv("V4L_TEST_JPEG") ? fopen(getenv("V4L_TEST_JPEG"), "rb") : NULL;
    if (picture) {
        jpeg = malloc(FRAME_BYTES);
        jpeg_bytes = fread(jpeg, 1, FRAME_BYTES, picture);
        fclose(picture);
    }
}

static void note(const char *text, ...) {
    if (!record) return;
    va_list values;
    va_start(values, text);
    vfprintf(record, text, values);
    va_end(values);
}

static int is_camera(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISCHR(found.st_mode) && major(found.st_rdev) == 81;
}

static int open_camera(const char *path) {
    int handle = eventfd(1, EFD_CLOEXEC);
    if (handle >= 0 && handle < 1024) handles[handle] = 1;
    note("open %s\n", path);
    return handle;
}

#define OPEN(NAME)                                                    \
    int NAME(const char *path, int flags, ...) {                      \
        if (is_camera(path)) return open_camera(path);                \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        int bits = va_arg(rest, int);                                 \
        va_end(rest);                                                 \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #NAME); \
        return real(path, flags, bits);                               \
    }
OPEN(open)
OPEN(open64)

int close(int handle) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (handle >= 0 && handle < 1024 && handles[handle]) {
        handles[handle] = 0;
        note("close\n");
    }
    return real(handle);
}

#define MAP(NAME, OFFSET)                                                                                        \
    void *NAME(void *at, size_t size, int rights, int flags, int handle, OFFSET offset) {                        \
        void *(*real)(void *, size_t, int, int, int, OFFSET) = dlsym(RTLD_NEXT, #NAME);                          \
        if (handle < 0 || handle >= 1024 || !handles[handle]) return real(at, size, rights, flags, handle, offset); \
        if (!memory) memory = real(NULL, (size_t)FRAME_BYTES * BUFFERS, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); \
        return memory + offset;                                                                                  \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

int munmap(void *at, size_t size) {
    int (*real)(void *, size_t) = dlsym(RTLD_NEXT, "munmap");
    if (memory && (unsigned char *)at >= memory && (unsigned char *)at < memory + (size_t)FRAME_BYTES * BUFFERS) return 0;
    return real(at, size);
}

static int fail(int number) {
    errno = number;
    return -1;
}

static unsigned nth_format(unsigned index) { return index == 0 ? raw : index == 1 ? packed : 0; }

static struct mode *nth_mode(unsigned format, unsigned index) {
    for (unsigned i = 0; i < COUNT(modes); i++)
        if (modes[i].format == format && index-- == 0) return modes + i;
    return NULL;
}

static void show_format(struct v4l2_format *format) {
    struct v4l2_pix_format *pixels = &format->fmt.pix;
    memset(pixels, 0, sizeof *pixels);
    pixels->pixelformat = mode->format;
    pixels->width = mode->width;
    pixels->height = mode->height;
    pixels->field = V4L2_FIELD_NONE;
    pixels->bytesperline = mode->format == raw ? mode->width * 2 : 0;
    pixels->sizeimage = mode->width * mode->height * 2;
}

static int set_format(struct v4l2_format *format, int set) {
    struct mode *before = mode, *chosen = NULL;
    struct v4l2_pix_format *pixels = &format->fmt.pix;
    unsigned wanted = packed && pixels->pixelformat == packed ? packed : raw;
    if (buffers && set) return fail(EBUSY);
    for (unsigned i = 0; i < COUNT(modes); i++)
        if (modes[i].format == wanted && (!chosen || modes[i].width <= pixels->width)) chosen = modes + i;
    mode = chosen;
    show_format(format);
    if (!set) mode = before;
    else {
        fps = fps < mode->fps ? fps : mode->fps;
        note("format %.4s %ux%u\n", (char *)&mode->format, mode->width, mode->height);
    }
    return 0;
}

static struct control *find_control(unsigned id) {
    unsigned next = id & V4L2_CTRL_FLAG_NEXT_CTRL;
    struct control *found = NULL;
    id &= ~(V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND);
    for (unsigned i = 0; i < COUNT(controls); i++)
        if (next ? controls[i].id > id && (!found || controls[i].id < found->id) : controls[i].id == id) found = controls + i;
    return found;
}

static int query_control(struct v4l2_queryctrl *query) {
    struct control *found = find_control(query->id);
    if (!found) return fail(EINVAL);
    memset(query, 0, sizeof *query);
    query->id = found->id;
    query->type = found->type;
    strcpy((char *)query->name, found->name);
    query->minimum = found->least;
    query->maximum = found->most;
    query->step = 1;
    query->default_value = found->value;
    return 0;
}

static int use_control(struct v4l2_control *control, int set) {
    struct control *found = find_control(control->id);
    if (!found) return fail(EINVAL);
    if (!set) control->value = found->value;
    else if (control->value < found->least || control->value > found->most) return fail(ERANGE);
    else {
        found->value = control->value;
        note("control %s %d\n", found->name, found->value);
    }
    return 0;
}

static int query_menu(struct v4l2_querymenu *item) {
    static const char *names[] = {"Auto Mode", "Manual Mode", "Shutter Priority Mode", "Aperture Priority Mode"};
    /* As most webcams: two of the four. */
    if (item->id != V4L2_CID_EXPOSURE_AUTO || (item->index != 1 && item->index != 3)) return fail(EINVAL);
    strcpy((char *)item->name, names[item->index]);
    return 0;
}

static void show_buffer(struct v4l2_buffer *buffer, unsigned index) {
    buffer->index = index;
    buffer->length = FRAME_BYTES;
    buffer->m.offset = index * FRAME_BYTES;
    buffer->bytesused = mode->format == V4L2_PIX_FMT_MJPEG ? jpeg_bytes : mode->width * mode->height * 2;
}

static int next_buffer(struct v4l2_buffer *buffer) {
    if (!streaming || !queued) return fail(EINVAL);
    usleep(1000000 / fps);
    unsigned index = queue[0];
    memmove(queue, queue + 1, --queued * sizeof *queue);
    show_buffer(buffer, index);
    if (!memory) return 0;
    unsigned char *pixels = memory + (size_t)index * FRAME_BYTES;
    if (mode->format == V4L2_PIX_FMT_MJPEG) memcpy(pixels, jpeg, jpeg_bytes);
    else memset(pixels, 16 + number++ % 200, buffer->bytesused);
    return 0;
}

static int stop(void) {
    if (streaming && getenv("V4L_TEST_CLOSE_MS")) usleep(atoi(getenv("V4L_TEST_CLOSE_MS")) * 1000);
    if (streaming) note("stop\n");
    streaming = queued = 0;
    return 0;
}

static int answer(unsigned long request, void *data) {
    switch ((unsigned)request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *facts = data;
        memset(facts, 0, sizeof *facts);
        strcpy((char *)facts->driver, "uvcvideo");
        strcpy((char *)facts->card, "Test camera");
        facts->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS;
        facts->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_ENUMINPUT: return ((struct v4l2_input *)data)->index ? fail(EINVAL) : 0;
    case VIDIOC_G_INPUT: *(int *)data = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = data;
        format->pixelformat = nth_format(format->index);
        return format->pixelformat ? 0 : fail(EINVAL);
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *size = data;
        struct mode *found = nth_mode(size->pixel_format, size->index);
        if (!found) return fail(EINVAL);
        size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        size->discrete.width = found->width;
        size->discrete.height = found->height;
        return 0;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *rate = data;
        for (unsigned i = 0; i < COUNT(modes) && !rate->index; i++)
            if (modes[i].format == rate->pixel_format && modes[i].width == rate->width && modes[i].height == rate->height) {
                rate->type = V4L2_FRMIVAL_TYPE_DISCRETE;
                rate->discrete.numerator = 1;
                rate->discrete.denominator = modes[i].fps;
                return 0;
            }
        return fail(EINVAL);
    }
    case VIDIOC_G_FMT: show_format(data); return 0;
    case VIDIOC_S_FMT: return set_format(data, 1);
    case VIDIOC_TRY_FMT: return set_format(data, 0);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *rate = data;
        struct v4l2_fract *interval = &rate->parm.capture.timeperframe;
        if ((unsigned)request == VIDIOC_S_PARM && interval->numerator) {
            fps = interval->denominator / interval->numerator;
            fps = fps < 1 ? 1 : fps < mode->fps ? fps : mode->fps;
            note("fps %u\n", fps);
        }
        rate->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        interval->numerator = 1;
        interval->denominator = fps;
        return 0;
    }
    case VIDIOC_QUERYCTRL: return query_control(data);
    case VIDIOC_QUERYMENU: return query_menu(data);
    case VIDIOC_G_CTRL: return use_control(data, 0);
    case VIDIOC_S_CTRL: return use_control(data, 1);
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = data;
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        buffers = wanted->count;
        note("buffers %u\n", buffers);
        return 0;
    }
    case VIDIOC_QUERYBUF: show_buffer(data, ((struct v4l2_buffer *)data)->index); return 0;
    case VIDIOC_QBUF:
        if (queued < BUFFERS) queue[queued++] = ((struct v4l2_buffer *)data)->index;
        return 0;
    case VIDIOC_DQBUF: return next_buffer(data);
    case VIDIOC_STREAMON: streaming = 1; note("stream\n"); return 0;
    case VIDIOC_STREAMOFF: return stop();
    }
    return fail(ENOTTY);
}

int ioctl(int handle, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (handle >= 0 && handle < 1024 && handles[handle]) return answer(request, data);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(handle, request, data);
}
