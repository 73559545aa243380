"""Bytes per second that a disk gives of a file past the page cache, as several readers at once."""
import mmap
import os
import threading
import time

BLOCK = 4 << 20
READERS = 8


def _write(path, size, seconds):
    """As many of `size` bytes as reach the disk in so long, and at least a block for each reader."""
    block = os.urandom(BLOCK)
    end = time.perf_counter() + seconds
    with open(path, "wb") as file:
        for number in range(max(READERS, size // BLOCK)):
            file.write(block)
            if number % 16 == 15:
                os.fdatasync(file.fileno())
            if number >= READERS and time.perf_counter() > end:
                break
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path, size, seconds=3.0) -> float:
    """Writes a file of `size` bytes there, reads it for so long at most, removes it. Of a disk too
    slow for that size it takes less."""
    try:
        _write(path, size, 2 * seconds)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        except OSError:  # tmpfs has no direct reads
            descriptor = os.open(path, os.O_RDONLY)
        blocks = os.path.getsize(path) // BLOCK
        end = time.perf_counter() + seconds
        got, lock, next_block = [0], threading.Lock(), iter(range(blocks))

        def read():
            buffer = mmap.mmap(-1, BLOCK)  # aligned, as direct reads want it
            while time.perf_counter() < end:
                with lock:
                    block = next(next_block, None)
                if block is None:
                    return
                count = os.preadv(descriptor, [buffer], block * BLOCK)
                with lock:
                    got[0] += count

        begin = time.perf_counter()
        threads = [threading.Thread(target=read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begin
        os.close(descriptor)
        return got[0] / took
    finally:
        if os.path.exists(path):
            os.remove(path)
