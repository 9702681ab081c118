// Hashes of large files by content, remembered beside them.
#pragma once
#include <string>
#include <vector>

namespace pendulum {

// 64 hexadecimal digits that change whenever a byte of these files does: SHA-256 over the files' in
// this order, each over the digests of its pieces, which are computed side by side.
//
// A file's digest is remembered in its folder, in .pendulum-hashes.json, under its name, inode,
// size and times of change to the nanosecond: one that was touched in any way is read again, and
// one that changed less than two seconds ago is not remembered, since within a tick of the file
// system's clock a second change would not show. Where the folder cannot be written to, files are
// read every time. DataError names a file that cannot be read or changes meanwhile.
std::string content_hash(const std::vector<std::string>& paths);

}  // namespace pendulum
