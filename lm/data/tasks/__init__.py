"""Tasks as data: what is read of a file, what is trained on, what is held out.

task = read(TaskConfig(name="sst2", root="data"))
task.train[0]  # Classification(id="train:2", text="hide new secretions ...", label=0)
"""

from lm.data.tasks.config import TaskConfig, check_metrics
from lm.data.tasks.forms import Form
from lm.data.tasks.published import PUBLISHED
from lm.data.tasks.task import Task, read

__all__ = ["PUBLISHED", "Form", "Task", "TaskConfig", "check_metrics", "read"]
