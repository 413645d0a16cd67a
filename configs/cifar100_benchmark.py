r"""The published CIFAR-100 tables of knowledge distillation: their networks and their protocol.

python -m experiments.prepare --dataset=cifar100 --data_dir=DIR
python -m experiments.train --config=configs/cifar100_benchmark.py:resnet32x4-resnet8x4,kd \
    --workdir=runs/resnet32x4-resnet8x4 --config.dataset.data_dir=DIR

The second command trains the teacher and the student of one cell: row KD, column resnet32x4 and
resnet8x4. experiments.compare trains several methods and seeds with one teacher. The argument is
TEACHER-STUDENT or TEACHER-STUDENT,METHOD, with the names of the tables; the method is kd by
default. The columns are:

  same family     resnet56-resnet20, resnet110-resnet20, resnet110-resnet32, resnet32x4-resnet8x4,
                  wrn_40_2-wrn_16_2, wrn_40_2-wrn_40_1, vgg13-vgg8
  other families  vgg13-MobileNetV2, ResNet50-MobileNetV2, ResNet50-vgg8, resnet32x4-ShuffleV1,
                  resnet32x4-ShuffleV2, wrn_40_2-ShuffleV1, resnet32x4-MobileNetV2

All other combinations of these teachers and students work too. The tables are those of Tian et
al., "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699, and
Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679. Both
publish the code: RepDistiller and mdistiller.

The protocol of teachers and students: 240 epochs, batches of 64, SGD with momentum 0.9 without
Nesterov's form, weight decay 5e-4 of all parameters, learning rate 0.05 (0.01 for MobileNetV2,
ShuffleV1 and ShuffleV2), multiplied by 0.1 after 150, 180 and 210 epochs, random crops with a
padding of 4 and flips. KD has temperature 4, weight 0.9, and weight 0.1 of the cross-entropy.

What is stricter here: the published protocol has no validation split. It trains on all 50,000
training images. RepDistiller reports the test accuracy of the last epoch, and mdistiller the best
test accuracy of all epochs. Here 5,000 training images are held out. They choose the teacher's
epoch and the student's epoch of the score 'test'; the test images choose nothing. The score 'test
at last step' is the one to compare with RepDistiller's. Expect it to be lower than in the tables,
since teacher and student see 10% fewer images. --config.dataset.validation_size=500 comes closer
to the tables, with a less reliable choice of the epoch.

The tables do not contain the methods takd, annealing_kd and continuation_kd. Their assistants and
the lengths of their stages are choices of this file: the stages have the proportions of
default.py.
"""

from ml_collections.config_dict import ConfigDict

from configs import cifar100, default

# Name in the tables: the network, and TAKD's assistant of a size between teacher and students.
TEACHERS = {
    "resnet56": ("resnet:56", "resnet:32"),
    "resnet110": ("resnet:110", "resnet:44"),
    "resnet32x4": ("resnet:32x4", "resnet:14x4"),
    "ResNet50": ("resnet50", "resnet:32x4"),
    "wrn_40_2": ("wrn:40-2", "wrn:22-2"),
    "vgg13": ("vgg:13", "vgg:11"),
}
# Name in the tables: the network and its learning rate.
STUDENTS = {
    "resnet20": ("resnet:20", 0.05),
    "resnet32": ("resnet:32", 0.05),
    "resnet8x4": ("resnet:8x4", 0.05),
    "wrn_16_2": ("wrn:16-2", 0.05),
    "wrn_40_1": ("wrn:40-1", 0.05),
    "vgg8": ("vgg:8", 0.05),
    "MobileNetV2": ("mobilenetv2:0.5", 0.01),
    "ShuffleV1": ("shufflenet_v1", 0.01),
    "ShuffleV2": ("shufflenet_v2", 0.01),
}
EPOCHS = 240


def get_config(argument: str = "resnet32x4-resnet8x4") -> ConfigDict:
    """Returns the settings of the tables; cifar100.py has those that are not set here.

    Args:
      argument: TEACHER-STUDENT or TEACHER-STUDENT,METHOD.
    """
    pair, _, method = argument.partition(",")
    teacher, _, student = pair.partition("-")
    if teacher not in TEACHERS or student not in STUDENTS:
        raise ValueError(
            f"expected TEACHER-STUDENT with a teacher among {', '.join(TEACHERS)} and a student"
            f" among {', '.join(STUDENTS)}, got {pair!r}"
        )
    config = cifar100.get_config(method or "kd")
    config.batch_size = 64
    default.set_optimizers(config, weight_decay=5e-4, drops="5/8,3/4,7/8")
    config.teacher.model, config.takd.assistant.model = TEACHERS[teacher]
    config.student.model, rate = STUDENTS[student]
    default.set_optimizers(config, learning_rate=rate)
    for trained in (config.teacher, config.takd.assistant):
        trained.optimizer.learning_rate = 0.05
        trained.epochs = EPOCHS
    config.student.epochs = EPOCHS
    config.annealing_kd.stage_1.epochs = EPOCHS // 2
    config.continuation_kd.psi_epochs = EPOCHS * 3 // 4
    config.continuation_kd.psi_until = EPOCHS * 3 // 4
    config.kd.temperature = 4.0
    config.kd.weight = 0.9
    return config
