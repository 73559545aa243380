// Files and batches over restarts of the server: what is on the disk comes back.
#include "launcher/serve/batch_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/device/error.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/file_store.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

TEST(FileStore, FilesComeBackAndGo) {
  const support::ScratchFolder scratch;
  const auto folder = scratch.path() / "kept";
  std::string id;
  {
    FileStore store(folder);
    const StoredFile file = store.add("my \"rows\".jsonl", "batch", "abc");
    id = file.id;
    EXPECT_THROW(FileStore second(folder), ConfigError);
    EXPECT_FALSE(store.find("../lock"));
  }
  std::ofstream(folder / "files/other.json") << "{\"id\":\"lock\"}";  // no file of ours
  std::ofstream(folder / "files/torn.json") << "{";
  FileStore store(folder);
  ASSERT_EQ(store.list().size(), 1U);
  const StoredFile file = store.find(id).value();
  EXPECT_EQ(file.filename, "my \"rows\".jsonl");
  EXPECT_EQ(file.bytes, 3U);
  EXPECT_TRUE(store.remove(id));
  EXPECT_FALSE(store.remove(id));
  EXPECT_FALSE(std::filesystem::exists(store.path_of(id)));
}

TEST(FileStore, AResultMovesIn) {
  const support::ScratchFolder scratch;
  FileStore store(scratch.path());
  std::ofstream(scratch.path() / "result") << "line\n";
  store.adopt({"file-1", "output.jsonl", "batch_output"}, scratch.path() / "result");
  EXPECT_EQ(store.find("file-1").value().bytes, 5U);
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / "result"));
}

TEST(BatchStore, BatchesComeBackAsTheyWere) {
  const support::ScratchFolder scratch;
  FileStore files(scratch.path());
  std::string first, second;
  {
    BatchStore store(scratch.path());
    first = store.add("/v1/completions", "file-1", {{"a", "b"}}).id;
    second = store.add("/v1/embeddings", "file-2", nullptr).id;
    store.change(first, [](Batch& batch) {
      batch.status = BatchStatus::completed;
      batch.output_file = "file-3";
      batch.counts = {3, 2, 1};
      batch.ended = 77;
    });
  }
  BatchStore store(scratch.path());
  const Batch batch = store.find(first).value();
  EXPECT_EQ(batch.status, BatchStatus::completed);
  EXPECT_EQ(batch.metadata, Json({{"a", "b"}}));
  EXPECT_EQ(batch.counts.failed, 1);
  EXPECT_EQ(batch_json(batch).at("completed_at"), 77);
  EXPECT_EQ(batch_json(batch).at("output_file_id"), "file-3");
  EXPECT_EQ(store.next().value().id, second);
  EXPECT_EQ(store.user_of("file-2").value().id, second);
  EXPECT_FALSE(store.user_of("file-1"));  // its batch has ended
  EXPECT_EQ(store.list().size(), 2U);
}

TEST(BatchStore, OnlySoManyAreOpen) {
  const support::ScratchFolder scratch;
  BatchStore store(scratch.path());
  for (std::size_t i = 0; i < kMostOpenBatches; ++i) store.add("/v1/completions", "file", nullptr);
  EXPECT_THROW(store.add("/v1/completions", "file", nullptr), ApiError);
}

TEST(Batch, FilesOfOneThatRunsAreNotShown) {
  Batch batch;
  batch.output_file = "file-1";
  batch.status = BatchStatus::in_progress;
  EXPECT_TRUE(batch_json(batch).at("output_file_id").is_null());
  batch.status = BatchStatus::failed;
  batch.problem = "why";
  batch.ended = 5;
  const Json shown = batch_json(batch);
  EXPECT_EQ(shown.at("failed_at"), 5);
  EXPECT_TRUE(shown.at("completed_at").is_null());
  EXPECT_EQ(shown.at("errors").at("data").front().at("message"), "why");
}

}  // namespace
}  // namespace sluice::launcher
