#include "launcher/serve/whole_exchange.h"

#include <utility>

#include "launcher/serve/api_error.h"

namespace sluice::launcher {

WholeExchange::WholeExchange(std::size_t rows, Form form, std::shared_ptr<HttpReply> reply,
                             ServeMetrics& metrics, Defer defer)
    : form_(std::move(form)),
      reply_(std::move(reply)),
      metrics_(metrics),
      defer_(std::move(defer)),
      done_(rows),
      left_(rows) {}

void WholeExchange::on_row_done(std::size_t place, std::unique_ptr<RowWork> work) {
  metrics_.row_done(work->row.prompt.size(), work->answers);
  done_[place] = std::move(work);
  if (--left_ > 0) return;
  if (!reply_->is_of_batch()) {
    metrics_.request_done(std::chrono::duration<double>(Clock::now() - came_).count());
  }
  defer_([rows = std::make_shared<Rows>(std::move(done_)), form = form_, reply = reply_] {
    reply->send({200, form(*rows).dump()});
  });
}

void WholeExchange::on_failed(const std::string& why) { reply_->send(error_answer({500, why})); }

}  // namespace sluice::launcher
