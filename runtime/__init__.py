"""How a process behaves here: work directory, durable files, errors, retry, stop, logs, failpoints."""
